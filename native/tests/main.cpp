// Random models, random calls: no result may depend on the instruction set, the threads or the company in a batch, and
// no call may read or write outside its memory. Meant for a build with sanitizers: tests/native.
#include <algorithm>
#include <cstdio>
#include <map>
#include <random>

#include "engine.hpp"

namespace {

using namespace empu;
using Random = std::mt19937;

int between(Random& random, int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); }

struct Failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

void expect(bool truth, const std::string& what) {
    if (!truth) throw Failure(what);
}

std::vector<uint8_t> random_bytes(Random& random, std::string_view type, int rows, int cols) {
    struct Layout {
        std::string_view type;
        size_t values, bytes;
        std::vector<size_t> scales;
    };
    static const Layout layouts[] = {{"Q4_0", 32, 18, {0}},
                                     {"Q4_1", 32, 20, {0, 2}},
                                     {"Q4_K", 256, 144, {0, 2}},
                                     {"Q8_0", 32, 34, {0}},
                                     {"F32", 1, 4, {}}};
    const Layout& layout =
        *std::find_if(std::begin(layouts), std::end(layouts), [&](auto& l) { return l.type == type; });
    const size_t blocks = size_t(rows) * size_t(cols) / layout.values;
    std::vector<uint8_t> bytes(blocks * layout.bytes);
    for (uint8_t& byte : bytes) byte = uint8_t(between(random, 0, 255));
    for (size_t block = 0; block < blocks; ++block) {
        for (const size_t at : layout.scales)
            bytes[block * layout.bytes + at + 1] = uint8_t(between(random, 0x18, 0x24));
        if (type == "F32") {
            const float value = std::normal_distribution<float>(0, 0.2f)(random);
            std::memcpy(bytes.data() + 4 * block, &value, 4);
        }
    }
    return bytes;
}

void fill(Model& model, Random& random, const std::string& name, int rows, int cols) {
    std::vector<std::pair<std::string_view, Kind>> choices = {{"F32", Kind::Float32}};
    if (cols % 32 == 0)
        choices = {
            {"Q4_0", Kind::Q4}, {"Q4_1", Kind::Q4}, {"Q8_0", Kind::Q8}, {"F32", Kind::Q4}, {"F32", Kind::Q8},
            {"F32", Kind::Float32}};
    if (cols % 256 == 0) choices.push_back({"Q4_K", Kind::Q4});
    const auto [type, kind] = choices[size_t(between(random, 0, int(choices.size()) - 1))];
    model.make(name, kind, rows, cols);
    const auto bytes = random_bytes(random, type, rows, cols);
    model.pack(name, 0, rows, type, bytes.data(), bytes.size());
}

std::shared_ptr<Model> random_model(Random& random) {
    const int unit = between(random, 0, 2) == 0 ? 2 * between(random, 1, 30) : 32 * between(random, 1, 8);
    const int kv_heads = between(random, 1, 3), group = between(random, 1, 4);
    const int head_dim = between(random, 0, 1) ? 2 * between(random, 1, 40) : 32 * between(random, 1, 3);
    Shape shape{between(random, 1, 2),
                unit,
                kv_heads * group,
                kv_heads,
                head_dim,
                between(random, 0, 1) ? between(random, 1, 90) : 32 * between(random, 1, 5),
                between(random, 2, 90),
                1e-5f,
                between(random, 0, 1) ? between(random, 1, 100) : 0,
                between(random, 0, 1) == 1};
    auto model = std::make_shared<Model>(shape);
    fill(*model, random, "embedding.weight", shape.vocabulary, shape.dim);
    if (!shape.tied) fill(*model, random, "output.weight", shape.vocabulary, shape.dim);
    const std::vector<float> ones(size_t(shape.dim), 1.0f);
    model->set_norm("norm.weight", ones.data(), shape.dim);
    for (int i = 0; i < shape.layers; ++i) {
        const std::string prefix = "layers." + std::to_string(i) + ".";
        model->set_norm(prefix + "attention_norm.weight", ones.data(), shape.dim);
        model->set_norm(prefix + "ffn_norm.weight", ones.data(), shape.dim);
        fill(*model, random, prefix + "attention.q.weight", shape.q_dim(), shape.dim);
        fill(*model, random, prefix + "attention.k.weight", shape.kv_dim(), shape.dim);
        fill(*model, random, prefix + "attention.v.weight", shape.kv_dim(), shape.dim);
        fill(*model, random, prefix + "attention.o.weight", shape.dim, shape.q_dim());
        fill(*model, random, prefix + "feed_forward.gate.weight", shape.ffn_dim, shape.dim);
        fill(*model, random, prefix + "feed_forward.up.weight", shape.ffn_dim, shape.dim);
        fill(*model, random, prefix + "feed_forward.down.weight", shape.dim, shape.ffn_dim);
    }
    return model;
}

std::unique_ptr<Engine> engine(const std::shared_ptr<Model>& model, int threads, std::string_view ops,
                               CacheKind cache) {
    std::vector<float> frequencies;
    for (int i = 0; i < model->shape.head_dim / 2; ++i) frequencies.push_back(1.0f / float(1 + i));
    return std::make_unique<Engine>(model, frequencies, threads, ops, size_t{1} << 30, cache);
}

using Tokens = std::vector<int32_t>;

// The logits of the last token, everything read at once.
std::vector<float> alone(Engine& engine, const Tokens& tokens) {
    const int64_t id = engine.cache().allocate(int(tokens.size()));
    std::vector<float> logits(engine.logit_stride());
    const Chunk chunk{id, tokens, Want::Last};
    engine.check({&chunk, 1});
    engine.forward({&chunk, 1}, logits.data());
    engine.cache().release(id);
    return logits;
}

void expect_same(const std::vector<float>& a, const std::vector<float>& b, const std::string& what) {
    expect(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0, what);
}

void expect_refused(Engine& engine, const Chunk& chunk, const std::string& what) {
    try {
        engine.check({&chunk, 1});
    } catch (const Error&) {
        return;
    }
    throw Failure(what + " was not refused");
}

void try_model(Random& random) {
    const auto model = random_model(random);
    const Ops* tables[8];
    const int count = available_ops(tables, 8);
    const CacheKind cache = between(random, 0, 1) ? CacheKind::Half : CacheKind::Small;
    const auto scalar = engine(model, 1, "scalar", cache);
    const auto other = engine(model, between(random, 1, 3), tables[between(random, 0, count - 1)]->name, cache);
    struct Live {
        int64_t id;
        Tokens tokens;
    };
    std::vector<Live> live;
    for (int step = 0; step < 8; ++step) {
        while (live.size() < size_t(between(random, 1, 5))) live.push_back({other->cache().allocate(400), {}});
        std::vector<Tokens> added(live.size());
        std::vector<Chunk> batch;
        for (size_t i = 0; i < live.size(); ++i) {
            const int room = 400 - int(live[i].tokens.size());
            const int length = between(random, 0, 2) ? 1 : between(random, 1, 150);
            for (int k = 0; k < std::min(room, length); ++k) {
                added[i].push_back(between(random, 0, model->shape.vocabulary - 1));
            }
            if (!added[i].empty()) batch.push_back({live[i].id, added[i], Want::Last});
        }
        std::vector<float> logits(batch.size() * other->logit_stride());
        other->check(batch);
        other->forward(batch, logits.data());
        size_t row = 0;
        for (size_t i = 0; i < live.size(); ++i) {
            if (added[i].empty()) continue;
            live[i].tokens.insert(live[i].tokens.end(), added[i].begin(), added[i].end());
            const float* got = logits.data() + row++ * other->logit_stride();
            expect_same(alone(*scalar, live[i].tokens), {got, got + other->logit_stride()},
                        std::string("logits of ") + other->ops().name + " differ from the scalar ones");
        }
        const size_t chosen = size_t(between(random, 0, int(live.size()) - 1));
        const int cut = between(random, 0, int(live[chosen].tokens.size()));
        if (between(random, 0, 2) == 0) {
            const int64_t id = other->cache().fork(live[chosen].id, cut, 400);
            live.push_back({id, {live[chosen].tokens.begin(), live[chosen].tokens.begin() + cut}});
        } else if (between(random, 0, 1) == 0) {
            other->cache().truncate(live[chosen].id, cut);
            live[chosen].tokens.resize(size_t(cut));
        } else if (between(random, 0, 1) == 0) {
            other->cache().release(live[chosen].id);
            live.erase(live.begin() + std::ptrdiff_t(chosen));
        }
    }
    const int64_t small = other->cache().allocate(2);
    const Tokens long_one(3, 0), outside = {model->shape.vocabulary}, negative = {-1}, one = {0};
    expect_refused(*other, {small, long_one, Want::Last}, "an overflow");
    expect_refused(*other, {small, outside, Want::Last}, "an id above the vocabulary");
    expect_refused(*other, {small, negative, Want::Last}, "a negative id");
    expect_refused(*other, {small, {}, Want::Last}, "an empty chunk");
    expect_refused(*other, {small + 1, one, Want::Last}, "an unknown sequence");
}

}  // namespace

int main(int count, char** arguments) {
    const int models = count > 1 ? std::atoi(arguments[1]) : 40;
    const unsigned seed = count > 2 ? unsigned(std::atoi(arguments[2])) : 1;
    for (int i = 0; i < models; ++i) {
        Random random(seed + unsigned(i));
        try {
            try_model(random);
        } catch (const std::exception& error) {
            std::printf("model of seed %u: %s\n", seed + unsigned(i), error.what());
            return 1;
        }
    }
    std::printf("%d random models gave the same bits everywhere\n", models);
}
