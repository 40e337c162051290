#include <algorithm>

#include "encoder/encoder.hpp"
#include "support.hpp"

namespace empu {

namespace {

// The weights of an encoder, which can be given to several.
struct EncoderWeights {
    struct Tensor {
        int layer;
        std::string name, type;
        std::vector<uint8_t> bytes;
    };
    EncoderConfig config;
    std::string word_type;
    std::vector<uint8_t> words;
    std::vector<float> positions;
    std::vector<Tensor> matrices;
    std::vector<std::pair<Tensor, std::vector<float>>> vectors;
};

EncoderConfig random_config(Random& random) {
    const int heads = random_int(random, 1, 4), head_dim = one_in(random, 2) ? 32 * random_int(random, 1, 2) : 8;
    const int dim = round_up(heads * head_dim, kGroupSize);
    EncoderConfig config{random_int(random, 1, 2), dim, heads, 32 * random_int(random, 1, 5), 20, 150, 1e-5f};
    while (dim % config.heads != 0 || config.head_dim() % 2 != 0) --config.heads;
    return config;
}

EncoderWeights random_weights(Random& random) {
    EncoderWeights weights{random_config(random), {}, {}, {}, {}, {}};
    const EncoderConfig& config = weights.config;
    const char* const types[] = {"F32", "Q8_0", "Q4_0", "Q4_1"};
    weights.word_type = types[random_int(random, 0, 2)];
    weights.words = random_bytes(random, weights.word_type, config.vocab_size, config.dim);
    weights.positions = random_floats(random, size_t(config.positions) * size_t(config.dim), 0.2f);
    const auto add_vector = [&](int layer, const char* name, int size, float deviation) {
        weights.vectors.push_back({{layer, name, "F32", {}}, random_floats(random, size_t(size), deviation)});
    };
    add_vector(-1, "embedding_norm", config.dim, 1.0f);
    add_vector(-1, "embedding_norm_bias", config.dim, 0.1f);
    for (int layer = 0; layer < config.layers; ++layer) {
        for (const char* name : {"query", "key", "value", "output", "up", "down"}) {
            const std::string type = types[random_int(random, 0, 3)];
            const int rows = std::string_view(name) == "up" ? config.ffn_dim : config.dim;
            const int cols = std::string_view(name) == "down" ? config.ffn_dim : config.dim;
            weights.matrices.push_back({layer, name, type, random_bytes(random, type, rows, cols)});
        }
        for (const char* name : {"query_bias", "value_bias", "output_bias", "down_bias", "attention_norm_bias",
                                 "output_norm_bias"}) {
            add_vector(layer, name, config.dim, 0.1f);
        }
        add_vector(layer, "up_bias", config.ffn_dim, 0.1f);
        add_vector(layer, "attention_norm", config.dim, 1.0f);
        add_vector(layer, "output_norm", config.dim, 1.0f);
    }
    return weights;
}

std::unique_ptr<Encoder> make_encoder(const EncoderWeights& weights, int threads, std::string_view ops) {
    auto encoder = std::make_unique<Encoder>(weights.config, threads, ops);
    encoder->set_word_embeddings(weights.word_type, weights.words.data(), weights.words.size());
    encoder->set_position_embeddings(weights.positions.data(), weights.positions.size());
    for (const auto& matrix : weights.matrices) {
        encoder->set_matrix(matrix.layer, matrix.name, matrix.type, matrix.bytes.data(), matrix.bytes.size());
    }
    for (const auto& [tensor, values] : weights.vectors) {
        encoder->set_vector(tensor.layer, tensor.name, values.data(), values.size());
    }
    return encoder;
}

template <typename Call>
void expect_rejected(const Call& call, const std::string& what) {
    try {
        call();
    } catch (const Error&) {
        return;
    }
    throw Failure(what + " was not rejected");
}

}  // namespace

void test_encoder(Random& random) {
    const EncoderWeights weights = random_weights(random);
    const EncoderConfig& config = weights.config;
    const Ops* tables[8];
    const Ops& ops = *tables[random_int(random, 0, available_ops(tables, 8) - 1)];
    const auto oracle = make_encoder(weights, 1, oracle_of(ops));
    const auto encoder = make_encoder(weights, random_int(random, 1, 4), ops.name);
    for (int round = 0; round < 2; ++round) {
        std::vector<int32_t> ids, lengths;
        for (int text = random_int(random, 1, 7); text > 0; --text) {
            lengths.push_back(random_int(random, 1, one_in(random, 4) ? config.positions : 20));
            for (int i = 0; i < lengths.back(); ++i) ids.push_back(random_int(random, 0, config.vocab_size - 1));
        }
        std::vector<float> vectors(lengths.size() * size_t(config.dim)), alone(size_t(config.dim));
        encoder->embed(ids, lengths, vectors.data());
        const float* vector = vectors.data();
        std::span<const int32_t> rest = ids;
        for (const int32_t& length : lengths) {
            oracle->embed(rest.first(size_t(length)), {&length, 1}, alone.data());
            expect_equal_bits(alone.data(), vector, alone.size(),
                              std::string("vectors of ") + ops.name + " differ from the scalar ones");
            rest = rest.subspan(size_t(length));
            vector += config.dim;
        }
    }
    std::vector<float> vector(size_t(config.dim));
    const std::vector<int32_t> too_long(size_t(config.positions) + 1, 0);
    for (const int32_t bad : {-1, config.vocab_size}) {
        expect_rejected([&] { encoder->embed(std::vector{bad}, std::vector<int32_t>{1}, vector.data()); }, "a bad id");
    }
    expect_rejected([&] { encoder->embed({}, std::vector<int32_t>{0}, vector.data()); }, "an empty text");
    expect_rejected([&] { encoder->embed(too_long, std::vector{int32_t(too_long.size())}, vector.data()); },
                    "a text of too many tokens");
    expect_rejected([&] { encoder->embed(std::vector<int32_t>{1}, std::vector<int32_t>{2}, vector.data()); },
                    "a length beyond the ids");
    expect_rejected([&] { Encoder(config, 1, "").embed({}, {}, vector.data()); }, "an encoder without weights");
}

}  // namespace empu
