// Random models, adapters and numbers, and what the tests expect of results.
#pragma once

#include <random>

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

inline int between(Random& random, int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); }
inline bool chance(Random& random, int in) { return between(random, 1, in) == 1; }

std::vector<float> random_floats(Random& random, size_t count, float deviation);
// Blocks of `type` whose scales are small.
std::vector<uint8_t> random_bytes(Random& random, std::string_view type, int rows, int cols);
std::shared_ptr<Model> random_model(Random& random);
// Changes some of the model's matrices.
std::shared_ptr<const Adapter> random_adapter(Random& random, const std::shared_ptr<const Model>& model);
Tokens random_tokens(Random& random, const Model& model, int count);
std::unique_ptr<Engine> engine_of(const std::shared_ptr<const Model>& model, int threads, std::string_view ops,
                                  CacheKind cache, size_t cache_limit = size_t{1} << 30);

// The logits of the last token, everything read at once.
std::vector<float> alone(Engine& engine, const Tokens& tokens, const std::shared_ptr<const Adapter>& adapter);
void expect_same(const float* a, const float* b, size_t count, const std::string& what);

// One random model: no result may depend on the instruction set, the threads or the company in a batch.
void try_model(Random& random);
// So many random calls, right and wrong ones: only our errors come back, and what a call does not name stays as it was.
void try_calls(Random& random, int count);
// One random row of logits and filters: every instruction set draws the same token, and one that the filters leave.
void try_drawing(Random& random);
// One random shape of tuning, forward and back.
void try_tuning(Random& random);

}  // namespace empu
