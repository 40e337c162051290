#include "random.hpp"

#include <algorithm>

namespace empu {

std::vector<float> random_floats(Random& random, size_t count, float deviation) {
    std::normal_distribution<float> normal(0, deviation);
    std::vector<float> values(count);
    for (float& value : values) value = normal(random);
    return values;
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
            std::memcpy(bytes.data() + 4 * block, random_floats(random, 1, 0.2f).data(), 4);
        }
    }
    return bytes;
}

static void fill(Model& model, Random& random, const std::string& name, int rows, int cols) {
    std::vector<std::pair<std::string_view, Kind>> choices = {{"F32", Kind::Float32}};
    if (cols % 32 == 0)
        choices = {
            {"Q4_0", Kind::Q4Symmetric}, {"Q4_1", Kind::Q4}, {"Q8_0", Kind::Q8}, {"F32", Kind::Q4}, {"F32", Kind::Q8},
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

std::shared_ptr<const Adapter> random_adapter(Random& random, const std::shared_ptr<const Model>& model) {
    const Shape& shape = model->shape;
    auto adapter = std::make_shared<Adapter>(model);
    const int rank = between(random, 1, 40);
    struct Place {
        const char* name;
        int rows, cols;
    };
    const Place places[] = {{"attention.q", shape.q_dim(), shape.dim},       {"attention.k", shape.kv_dim(), shape.dim},
                            {"attention.v", shape.kv_dim(), shape.dim},      {"attention.o", shape.dim, shape.q_dim()},
                            {"feed_forward.gate", shape.ffn_dim, shape.dim}, {"feed_forward.up", shape.ffn_dim, shape.dim},
                            {"feed_forward.down", shape.dim, shape.ffn_dim}};
    for (int layer = 0; layer < shape.layers; ++layer) {
        for (const Place& place : places) {
            if (chance(random, 3)) continue;
            const auto a = random_floats(random, size_t(rank) * size_t(place.cols), 0.2f);
            const auto b = random_floats(random, size_t(place.rows) * size_t(rank), 0.2f);
            adapter->add("layers." + std::to_string(layer) + "." + place.name + ".weight", rank, a.data(), a.size(),
                         b.data(), b.size());
        }
    }
    return adapter;
}

Tokens random_tokens(Random& random, const Model& model, int count) {
    Tokens tokens;
    for (int i = 0; i < count; ++i) tokens.push_back(between(random, 0, model.shape.vocabulary - 1));
    return tokens;
}

std::unique_ptr<Engine> engine_of(const std::shared_ptr<const Model>& model, int threads, std::string_view ops,
                                  CacheKind cache, size_t cache_limit) {
    std::vector<float> frequencies;
    for (int i = 0; i < model->shape.head_dim / 2; ++i) frequencies.push_back(1.0f / float(1 + i));
    return std::make_unique<Engine>(model, frequencies, threads, ops, cache_limit, cache);
}

std::vector<float> alone(Engine& engine, const Tokens& tokens, const std::shared_ptr<const Adapter>& adapter) {
    const int64_t id = engine.allocate(int(tokens.size()), adapter);
    std::vector<float> logits(engine.logit_stride());
    const Chunk chunk{id, tokens, Want::Last};
    engine.check({&chunk, 1});
    engine.forward({&chunk, 1}, logits.data());
    engine.cache().release(id);
    return logits;
}

void expect_same(const float* a, const float* b, size_t count, const std::string& what) {
    expect(std::memcmp(a, b, count * sizeof(float)) == 0, what);
}

}  // namespace empu
