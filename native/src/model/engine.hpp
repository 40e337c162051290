// One forward pass: token ids in, logits out. Knows nothing of Python or of text.
#pragma once

#include <chrono>
#include <memory>
#include <span>

#include "model/lora_adapter.hpp"
#include "model/kv_cache.hpp"
#include "model/model.hpp"
#include "model/thread_pool.hpp"

namespace empu {

enum class Want { None, Last, All };

struct Chunk {
    int64_t sequence;
    std::span<const int32_t> tokens;
    Want want;

    size_t logit_rows() const { return want == Want::None ? 0 : want == Want::Last ? 1 : tokens.size(); }
};

class Engine {
  public:
    // `frequencies`: radians per position of each pair of a head. Throws Error.
    Engine(std::shared_ptr<const Model> model, std::vector<float> frequencies, int threads, std::string_view ops,
           size_t cache_limit, CacheKind cache = CacheKind::Bfloat);
    ~Engine();

    // A new sequence. Throws Error for an adapter of another model, or a cache that the limit does not allow.
    int64_t allocate(int capacity, std::shared_ptr<const Adapter> adapter = nullptr);
    // Throws Error, and then nothing has changed, for an unknown sequence, two chunks of one sequence, an empty chunk,
    // a token outside the vocabulary, or a cache that would overflow.
    void check(std::span<const Chunk> batch);
    // Runs a checked batch. `logits` has one row of `logit_stride()` floats for each row that the chunks want, in
    // order.
    void forward(std::span<const Chunk> batch, float* logits);
    size_t logit_stride() const { return size_t(round_up(model_->shape.vocabulary, kLanes)); }

    Cache& cache() { return cache_; }
    const Ops& ops() const { return ops_; }
    int threads() const { return pool_.threads(); }

    struct Pass;
    struct Workspace;

  private:
    void extend_rotations(int positions);
    void run_pass(Pass& pass);
    int choose_threads(int tokens);
    void note_stalls(std::chrono::nanoseconds taken);

    std::shared_ptr<const Model> model_;
    std::vector<float> frequencies_;
    const Ops& ops_;
    Pool pool_;
    Cache cache_;
    std::unique_ptr<Workspace> work_;
    int crowding_ = 0;                    // how often passes stalled of late
    int alone_ = 0, alone_next_ = 0;      // passes that one thread is to do alone
    std::vector<float> cosines_, sines_;  // (positions, head_dim / 2)
};

}  // namespace empu
