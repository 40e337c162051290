#include "model/engine.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "model/forward_pass.hpp"

namespace empu {

namespace {

Memory floats(int rows, int stride) { return Memory(size_t(rows) * size_t(stride) * sizeof(float)); }

int widest(const Shape& shape) { return round_up(std::max({shape.dim, shape.q_dim(), shape.ffn_dim}), kGroup); }

}  // namespace

RowMemory::RowMemory(int tokens, int widest)
    : floats_(floats(tokens, widest)),
      numbers_(size_t(tokens) * size_t(widest)),
      scales_(floats(tokens, 2 * widest / kGroup)),
      sums_(floats(tokens, 2 * widest / kGroup)),
      totals_(floats(tokens, 2 * widest / kGroup)),
      tiled_(tokens < kLanes ? Memory() : floats((tokens + kLanes - 1) / kLanes, 2 * widest / kGroup * kTiledFloats)) {}

Rows RowMemory::rows(int cols, bool fine) {
    return {cols,
            round_up(cols, kLanes),
            floats_.as<float>(),
            numbers_.as<int8_t>(),
            scales_.as<float>(),
            sums_.as<float>(),
            totals_.as<int32_t>(),
            fine,
            tiled_.as<float>()};
}

Scratch::Scratch(const Shape& shape)
    : rows(kAlone, widest(shape)),
      lowered{RowMemory(kAlone, kMaxRank), RowMemory(kAlone, kMaxRank), RowMemory(kAlone, kMaxRank)},
      queries(size_t(std::max(kTileTokens * shape.group(), shape.heads)) * size_t(shape.head_dim) * sizeof(uint16_t)),
      values(floats(kTileTokens * shape.group(), round_up(shape.head_dim, kLanes))),
      largest(size_t(kTileTokens * shape.group())),
      weight(size_t(kTileTokens * shape.group())),
      low(size_t(kTileTokens * shape.group())),
      high(size_t(kTileTokens * shape.group())) {}

Engine::Workspace::Workspace(const Shape& shape, int threads)
    : x_stride(round_up(shape.dim, kLanes)),
      q_stride(round_up(shape.q_dim(), kLanes)),
      kv_stride(round_up(shape.kv_dim(), kLanes)),
      ffn_stride(round_up(shape.ffn_dim, kLanes)),
      width(round_up(shape.head_dim, kLanes)),
      x(floats(kPassTokens, x_stride)),
      q(floats(kPassTokens, q_stride)),
      k(floats(kPassTokens, kv_stride)),
      v(floats(kPassTokens, kv_stride)),
      attended(floats(kPassTokens, q_stride)),
      hidden(floats(kPassTokens, ffn_stride)),
      up(floats(kPassTokens, ffn_stride)),
      rows(kPassTokens, widest(shape)),
      hidden_rows(kPassTokens, widest(shape)),
      lowered{RowMemory(kPassTokens, kMaxRank), RowMemory(kPassTokens, kMaxRank), RowMemory(kPassTokens, kMaxRank)} {
    for (int thread = 0; thread < threads; ++thread) scratch.emplace_back(shape);
}

Engine::Engine(std::shared_ptr<const Model> model, std::vector<float> frequencies, int threads, std::string_view ops,
               size_t cache_limit, CacheKind cache)
    : model_(std::move(model)),
      frequencies_(std::move(frequencies)),
      ops_(choose_ops(ops)),
      pool_(threads),
      cache_(cache, model_->shape.layers, model_->shape.kv_heads, model_->shape.head_dim, cache_limit) {
    model_->check_complete();
    if (frequencies_.size() != size_t(model_->shape.head_dim / 2)) {
        throw Error("There must be one rotary frequency for each pair of a head.");
    }
    work_ = std::make_unique<Workspace>(model_->shape, threads);
}

Engine::~Engine() = default;

int64_t Engine::allocate(int capacity, std::shared_ptr<const Adapter> adapter) {
    if (adapter && adapter->model() != model_.get()) throw Error("The adapter belongs to another model.");
    return cache_.allocate(capacity, std::move(adapter));
}

void Engine::check(std::span<const Chunk> batch) {
    std::set<int64_t> seen;
    for (const Chunk& chunk : batch) {
        const Sequence& sequence = cache_.at(chunk.sequence);
        if (!seen.insert(chunk.sequence).second) {
            throw Error("Two chunks of one batch belong to sequence " + std::to_string(chunk.sequence) +
                        "; join them or run them one after the other.");
        }
        if (chunk.tokens.empty()) throw Error("A chunk has no tokens; give at least one.");
        for (const int32_t token : chunk.tokens) {
            if (token < 0 || token >= model_->shape.vocabulary) {
                throw Error("Token id " + std::to_string(token) + " is outside the vocabulary of " +
                            std::to_string(model_->shape.vocabulary) + ".");
            }
        }
        if (chunk.tokens.size() > size_t(sequence.capacity - sequence.length)) {
            throw Error(std::to_string(chunk.tokens.size()) + " more tokens do not fit: the sequence holds " +
                        std::to_string(sequence.length) + " of " + std::to_string(sequence.capacity) + ".");
        }
    }
}

void Engine::extend_rotations(int positions) {
    const size_t pairs = frequencies_.size();
    cosines_.reserve(size_t(positions) * pairs);  // so that no memory is missing between one table and the other
    sines_.reserve(size_t(positions) * pairs);
    for (size_t position = cosines_.size() / pairs; position < size_t(positions); ++position) {
        for (const float frequency : frequencies_) {
            const float angle = float(position) * frequency;
            cosines_.push_back(std::cos(angle));
            sines_.push_back(std::sin(angle));
        }
    }
}

void Engine::forward(std::span<const Chunk> batch, float* logits) {
    for (const Chunk& chunk : batch) {  // everything that may fail for lack of memory comes first
        Sequence& sequence = cache_.at(chunk.sequence);
        cache_.prepare(sequence, int(chunk.tokens.size()));
        extend_rotations(sequence.length + int(chunk.tokens.size()));
    }
    Pass pass;
    const auto flush = [&] {
        if (pass.tokens.empty()) return;
        pass.logits = logits;
        run_pass(pass);
        logits += pass.wanted.size() * logit_stride();
        pass = Pass();
    };
    for (const Chunk& chunk : batch) {
        const Sequence& sequence = cache_.at(chunk.sequence);
        const int count = int(chunk.tokens.size());
        for (int done = 0; done < count;) {
            const int taken = std::min(count - done, kPassTokens - pass.size());
            pass.runs.push_back({&sequence, pass.size(), taken, sequence.length + done, 0});
            for (int i = done; i < done + taken; ++i) {
                if (chunk.want == Want::All || (chunk.want == Want::Last && i == count - 1)) {
                    pass.wanted.push_back(pass.size());
                }
                pass.adapt(sequence.adapter.get());
                pass.tokens.push_back({chunk.tokens[size_t(i)], sequence.length + i, int(pass.runs.size()) - 1});
            }
            done += taken;
            if (pass.size() == kPassTokens) flush();
        }
    }
    flush();
    for (const Chunk& chunk : batch) cache_.at(chunk.sequence).length += int(chunk.tokens.size());
}

}  // namespace empu
