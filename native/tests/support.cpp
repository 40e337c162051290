#include "support.hpp"

#include <algorithm>
#include <cstring>

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
    for (uint8_t& byte : bytes) byte = uint8_t(random_int(random, 0, 255));
    for (size_t block = 0; block < blocks; ++block) {
        for (const size_t offset : layout.scales)
            bytes[block * layout.bytes + offset + 1] = uint8_t(random_int(random, 0x18, 0x24));
        if (type == "F32") {
            std::memcpy(bytes.data() + 4 * block, random_floats(random, 1, 0.2f).data(), 4);
        }
    }
    return bytes;
}

static void add_random_matrix(Model& model, Random& random, const std::string& name, int rows, int cols) {
    std::vector<std::pair<std::string_view, WeightFormat>> choices = {{"F32", WeightFormat::Float32}};
    if (cols % 32 == 0)
        choices = {{"Q4_0", WeightFormat::Q4Symmetric}, {"Q4_1", WeightFormat::Q4}, {"Q8_0", WeightFormat::Q8},
                   {"F32", WeightFormat::Q4},           {"F32", WeightFormat::Q8},  {"F32", WeightFormat::Float32}};
    if (cols % 256 == 0) choices.push_back({"Q4_K", WeightFormat::Q4});
    const auto [type, format] = choices[size_t(random_int(random, 0, int(choices.size()) - 1))];
    model.allocate(name, format, rows, cols);
    const auto bytes = random_bytes(random, type, rows, cols);
    model.pack(name, 0, rows, type, bytes.data(), bytes.size());
}

std::shared_ptr<Model> random_model(Random& random) {
    const int dim = random_int(random, 0, 2) == 0 ? 2 * random_int(random, 1, 30) : 32 * random_int(random, 1, 8);
    const int kv_heads = random_int(random, 1, 3), heads_per_kv_head = random_int(random, 1, 4);
    const int head_dim = random_int(random, 0, 1) ? 2 * random_int(random, 1, 40) : 32 * random_int(random, 1, 3);
    ModelConfig config{random_int(random, 1, 2),
                       dim,
                       kv_heads * heads_per_kv_head,
                       kv_heads,
                       head_dim,
                       random_int(random, 0, 1) ? random_int(random, 1, 90) : 32 * random_int(random, 1, 5),
                       random_int(random, 2, 90),
                       1e-5f,
                       random_int(random, 0, 1) ? random_int(random, 1, 100) : 0,
                       random_int(random, 0, 1) == 1};
    auto model = std::make_shared<Model>(config);
    add_random_matrix(*model, random, "embedding.weight", config.vocab_size, config.dim);
    if (!config.tie_embeddings) add_random_matrix(*model, random, "output.weight", config.vocab_size, config.dim);
    const std::vector<float> ones(size_t(config.dim), 1.0f);
    model->set_norm("norm.weight", ones.data(), config.dim);
    for (int i = 0; i < config.n_layers; ++i) {
        const std::string prefix = "layers." + std::to_string(i) + ".";
        model->set_norm(prefix + "attention_norm.weight", ones.data(), config.dim);
        model->set_norm(prefix + "ffn_norm.weight", ones.data(), config.dim);
        add_random_matrix(*model, random, prefix + "attention.q.weight", config.q_dim(), config.dim);
        add_random_matrix(*model, random, prefix + "attention.k.weight", config.kv_dim(), config.dim);
        add_random_matrix(*model, random, prefix + "attention.v.weight", config.kv_dim(), config.dim);
        add_random_matrix(*model, random, prefix + "attention.o.weight", config.dim, config.q_dim());
        add_random_matrix(*model, random, prefix + "feed_forward.gate.weight", config.ffn_dim, config.dim);
        add_random_matrix(*model, random, prefix + "feed_forward.up.weight", config.ffn_dim, config.dim);
        add_random_matrix(*model, random, prefix + "feed_forward.down.weight", config.dim, config.ffn_dim);
    }
    return model;
}

std::shared_ptr<const LoraAdapter> random_adapter(Random& random, const std::shared_ptr<const Model>& model) {
    const ModelConfig& config = model->config;
    auto adapter = std::make_shared<LoraAdapter>(model);
    const int rank = random_int(random, 1, 40);
    struct LoraTarget {
        const char* name;
        int rows, cols;
    };
    const LoraTarget targets[] = {
        {"attention.q", config.q_dim(), config.dim},       {"attention.k", config.kv_dim(), config.dim},
        {"attention.v", config.kv_dim(), config.dim},      {"attention.o", config.dim, config.q_dim()},
        {"feed_forward.gate", config.ffn_dim, config.dim}, {"feed_forward.up", config.ffn_dim, config.dim},
        {"feed_forward.down", config.dim, config.ffn_dim}};
    for (int layer = 0; layer < config.n_layers; ++layer) {
        for (const LoraTarget& target : targets) {
            if (one_in(random, 3)) continue;
            const auto a = random_floats(random, size_t(rank) * size_t(target.cols), 0.2f);
            const auto b = random_floats(random, size_t(target.rows) * size_t(rank), 0.2f);
            adapter->add("layers." + std::to_string(layer) + "." + target.name + ".weight", rank, a.data(), a.size(),
                         b.data(), b.size());
        }
    }
    return adapter;
}

Tokens random_tokens(Random& random, const Model& model, int count) {
    Tokens tokens;
    for (int i = 0; i < count; ++i) tokens.push_back(random_int(random, 0, model.config.vocab_size - 1));
    return tokens;
}

std::unique_ptr<Engine> make_engine(const std::shared_ptr<const Model>& model, int threads, std::string_view ops,
                                    CacheFormat cache, size_t cache_limit) {
    std::vector<float> frequencies;
    for (int i = 0; i < model->config.head_dim / 2; ++i) frequencies.push_back(1.0f / float(1 + i));
    return std::make_unique<Engine>(model, frequencies, threads, ops, cache_limit, cache);
}

std::vector<float> run_alone(Engine& engine, const Tokens& tokens, const std::shared_ptr<const LoraAdapter>& adapter) {
    const int64_t id = engine.allocate(int(tokens.size()), adapter);
    std::vector<float> logits(engine.logit_stride());
    const Chunk chunk{id, tokens, LogitsNeeded::Last};
    engine.check({&chunk, 1});
    engine.forward({&chunk, 1}, logits.data());
    engine.cache().release(id);
    return logits;
}

void expect_equal_bits(const float* a, const float* b, size_t count, const std::string& what) {
    expect(std::memcmp(a, b, count * sizeof(float)) == 0, what);
}

}  // namespace empu
