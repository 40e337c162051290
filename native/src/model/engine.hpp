// Inference engine: token ids in, logits out. Knows nothing of Python or of text.
#pragma once

#include <chrono>
#include <memory>
#include <span>

#include "model/kv_cache.hpp"
#include "model/lora_adapter.hpp"
#include "model/model.hpp"
#include "model/thread_pool.hpp"

namespace empu {

struct Batch;
struct Workspace;

enum class LogitsNeeded { None, Last, All };

// The next tokens of one sequence: its prompt or part of it (prefill), or one token (decode).
struct Chunk {
    int64_t sequence;
    std::span<const int32_t> tokens;
    LogitsNeeded logits;

    size_t logit_rows() const {
        return logits == LogitsNeeded::None ? 0 : logits == LogitsNeeded::Last ? 1 : tokens.size();
    }
};

class Engine {
  public:
    // `frequencies`: rotary frequency of each pair of a head, in radians per position. Throws Error.
    Engine(std::shared_ptr<const Model> model, std::vector<float> frequencies, int threads, std::string_view ops,
           size_t max_cache_bytes, CacheFormat cache_format = CacheFormat::Bfloat16);
    ~Engine();

    // Return the id of a new sequence. Throws Error if the adapter belongs to another model or the cache has no space.
    int64_t allocate(int capacity, std::shared_ptr<const LoraAdapter> adapter = nullptr);
    // Throws Error, and changes nothing, for an unknown sequence, two chunks of one sequence, an empty chunk, a token
    // outside the vocabulary, or more tokens than a sequence has space for.
    void check(std::span<const Chunk> chunks);
    // Run checked chunks. `logits` has one row of `logit_stride()` floats for each row that the chunks need, in order.
    void forward(std::span<const Chunk> chunks, float* logits);
    size_t logit_stride() const { return size_t(round_up(model_->config.vocab_size, kLanes)); }

    KvCache& cache() { return cache_; }
    const Ops& ops() const { return ops_; }
    int threads() const { return pool_.threads(); }

  private:
    void extend_rope_tables(int positions);
    void run_batch(Batch& batch);
    int choose_threads(int tokens);
    void record_stalls(std::chrono::nanoseconds duration);

    std::shared_ptr<const Model> model_;
    std::vector<float> frequencies_;
    const Ops& ops_;
    ThreadPool pool_;
    KvCache cache_;
    std::unique_ptr<Workspace> workspace_;
    int contention_ = 0;                                   // points for recent passes that stalled
    int single_thread_left_ = 0, single_thread_next_ = 0;  // passes to run in one thread, now and after the next stall
    std::vector<float> cosines_, sines_;                   // (positions, head_dim / 2)
};

}  // namespace empu
