#include "model/engine.hpp"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include "error.hpp"
#include "model/batch.hpp"
#include "model/forward_pass.hpp"
#include "model/workspace.hpp"

namespace empu {

namespace {

// If other programs keep the processors busy, threads that meet at several barriers per layer wait for each other most
// of the time, and one thread is faster. The results have the same bits.
constexpr int kMaxStallTokens = 16;         // larger batches do so much work between barriers that stalls matter less
constexpr int kStalledPercent = 25;         // of a pass spent waiting, from which it counts as stalled
constexpr int kMaxContention = 4;           // a stalled pass adds two points, another takes one off
constexpr int kMaxSingleThreadPasses = 64;  // before all threads are tried again

}  // namespace

Engine::Engine(std::shared_ptr<const Model> model, std::vector<float> frequencies, int threads, std::string_view ops,
               size_t max_cache_bytes, CacheFormat cache_format)
    : model_(std::move(model)),
      frequencies_(std::move(frequencies)),
      ops_(choose_ops(ops)),
      pool_(threads),
      cache_(cache_format, model_->config.n_layers, model_->config.n_kv_heads, model_->config.head_dim,
             max_cache_bytes) {
    model_->check_complete();
    if (frequencies_.size() != size_t(model_->config.head_dim / 2)) {
        throw Error("There must be one rotary frequency for each pair of elements of a head.");
    }
    workspace_ = std::make_unique<Workspace>(model_->config, threads);
}

Engine::~Engine() = default;

int64_t Engine::allocate(int capacity, std::shared_ptr<const LoraAdapter> adapter) {
    if (adapter && adapter->model() != model_.get()) throw Error("The adapter belongs to another model.");
    return cache_.allocate(capacity, std::move(adapter));
}

void Engine::check(std::span<const Chunk> chunks) {
    std::set<int64_t> seen;
    for (const Chunk& chunk : chunks) {
        const Sequence& sequence = cache_.at(chunk.sequence);
        if (!seen.insert(chunk.sequence).second) {
            throw Error("Two chunks of one batch belong to sequence " + std::to_string(chunk.sequence) +
                        "; join them or run them one after the other.");
        }
        if (chunk.tokens.empty()) throw Error("A chunk has no tokens; give at least one.");
        for (const int32_t token : chunk.tokens) {
            if (token < 0 || token >= model_->config.vocab_size) {
                throw Error("Token id " + std::to_string(token) + " is outside the vocabulary of " +
                            std::to_string(model_->config.vocab_size) + ".");
            }
        }
        if (chunk.tokens.size() > size_t(sequence.capacity - sequence.length)) {
            throw Error(std::to_string(chunk.tokens.size()) + " more tokens do not fit: the sequence holds " +
                        std::to_string(sequence.length) + " of " + std::to_string(sequence.capacity) + ".");
        }
    }
}

void Engine::extend_rope_tables(int positions) {
    const size_t pairs = frequencies_.size();
    cosines_.reserve(size_t(positions) * pairs);  // so that both tables grow or, without memory, neither
    sines_.reserve(size_t(positions) * pairs);
    for (size_t position = cosines_.size() / pairs; position < size_t(positions); ++position) {
        for (const float frequency : frequencies_) {
            const float angle = float(position) * frequency;
            cosines_.push_back(std::cos(angle));
            sines_.push_back(std::sin(angle));
        }
    }
}

void Engine::forward(std::span<const Chunk> chunks, float* logits) {
    for (const Chunk& chunk : chunks) {  // first do everything that may fail for lack of memory
        Sequence& sequence = cache_.at(chunk.sequence);
        cache_.make_writable(sequence, int(chunk.tokens.size()));
        extend_rope_tables(sequence.length + int(chunk.tokens.size()));
    }
    Batch batch;
    const auto flush = [&] {
        if (batch.tokens.empty()) return;
        batch.logits = logits;
        run_batch(batch);
        logits += batch.logit_tokens.size() * logit_stride();
        batch = Batch();
    };
    for (const Chunk& chunk : chunks) {
        const Sequence& sequence = cache_.at(chunk.sequence);
        const int total = int(chunk.tokens.size());
        for (int begin = 0; begin < total;) {
            const int count = std::min(total - begin, kMaxBatchTokens - batch.size());
            batch.slices.push_back({&sequence, batch.size(), count, sequence.length + begin, 0});
            for (int i = begin; i < begin + count; ++i) {
                if (chunk.logits == LogitsNeeded::All || (chunk.logits == LogitsNeeded::Last && i == total - 1)) {
                    batch.logit_tokens.push_back(batch.size());
                }
                batch.add_adapter(sequence.adapter.get());
                batch.tokens.push_back({chunk.tokens[size_t(i)], sequence.length + i, int(batch.slices.size()) - 1});
            }
            begin += count;
            if (batch.size() == kMaxBatchTokens) flush();
        }
    }
    flush();
    for (const Chunk& chunk : chunks) cache_.at(chunk.sequence).length += int(chunk.tokens.size());
}

void Engine::run_batch(Batch& batch) {
    batch.plan_attention(model_->config);
    workspace_->reserve_partials(size_t(batch.num_partials) * size_t(model_->config.heads_per_kv_head()));
    const int threads = choose_threads(batch.size());
    const ForwardContext context = {*model_, ops_, pool_, cache_, cosines_.data(), sines_.data(), batch, *workspace_};
    const auto start = std::chrono::steady_clock::now();
    pool_.run(threads, [&](int thread) { run_forward_pass(context, thread); });
    if (threads > 1 && batch.size() <= kMaxStallTokens) record_stalls(std::chrono::steady_clock::now() - start);
}

int Engine::choose_threads(int tokens) {
    if (tokens > kMaxStallTokens || single_thread_left_ == 0) return pool_.threads();
    --single_thread_left_;
    return 1;
}

void Engine::record_stalls(std::chrono::nanoseconds duration) {
    const bool is_stalled = pool_.stall_time() > duration * kStalledPercent / 100;
    contention_ = is_stalled ? std::min(contention_ + 2, kMaxContention) : std::max(contention_ - 1, 0);
    if (is_stalled && contention_ == kMaxContention) {
        single_thread_next_ = std::min(std::max(2 * single_thread_next_, 4), kMaxSingleThreadPasses);
        single_thread_left_ = single_thread_next_;
    } else if (contention_ == 0) {
        single_thread_next_ = 0;
    }
}

}  // namespace empu
