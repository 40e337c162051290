// Random models, adapters, tokens and data for the tests, and their assertions.
#pragma once

#include <random>
#include <stdexcept>
#include <string>

#include "error.hpp"
#include "model/engine.hpp"

namespace empu {

using Random = std::mt19937;
using Tokens = std::vector<int32_t>;

struct Failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

inline void expect(bool truth, const std::string& what) {
    if (!truth) throw Failure(what);
}

inline int random_int(Random& random, int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
}
inline bool one_in(Random& random, int n) { return random_int(random, 1, n) == 1; }

std::vector<float> random_floats(Random& random, size_t count, float deviation);
// Blocks of GGML type `type` with small scales.
std::vector<uint8_t> random_bytes(Random& random, std::string_view type, int rows, int cols);
std::shared_ptr<Model> random_model(Random& random);
// An adapter of some of the model's matrices.
std::shared_ptr<const LoraAdapter> random_adapter(Random& random, const std::shared_ptr<const Model>& model);
Tokens random_tokens(Random& random, const Model& model, int count);
std::unique_ptr<Engine> make_engine(const std::shared_ptr<const Model>& model, int threads, std::string_view ops,
                                    CacheFormat cache, size_t cache_limit = size_t{1} << 30);

// Logits of the last token, with all tokens in one chunk of a new sequence.
std::vector<float> run_alone(Engine& engine, const Tokens& tokens, const std::shared_ptr<const LoraAdapter>& adapter);
void expect_equal_bits(const float* a, const float* b, size_t count, const std::string& what);

// The tests, each of one random case. They throw Failure.
//
// A model: logits do not depend on the instruction set, the threads or the rest of the batch.
void test_forward(Random& random);
// `count` calls, valid and invalid: only our errors are thrown, and sequences that a call does not name do not change.
void test_calls(Random& random, int count);
// Logits and filters: every instruction set samples the same token, and one that passes the filters.
void test_sampling(Random& random);
// A text encoder: vectors do not depend on the instruction set, the threads or the rest of the batch.
void test_encoder(Random& random);
// Training layers, forward and backward.
void test_tuning(Random& random);

}  // namespace empu
