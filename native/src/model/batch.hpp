// Batch: the tokens of one forward pass and the attention work that they need.
#pragma once

#include <cstdint>
#include <vector>

#include "model/kv_cache.hpp"
#include "model/lora_adapter.hpp"

namespace empu {

inline constexpr int kMaxBatchTokens = 256;
inline constexpr int kQueryTileTokens = 16;  // prefill: tokens of one sequence that attend together

// Neighbouring tokens of one sequence: one token (decode), or more (prefill).
struct SequenceSlice {
    const Sequence* sequence;
    int first;  // token in the batch
    int count;
    int position;       // of the first token
    int first_partial;  // decode: index of the first of its partial attention results

    bool is_prefill() const { return count > 1; }
};

// Neighbouring tokens with the same adapter.
struct AdapterSegment {
    const LoraAdapter* adapter;
    int first;
    int count;
};

struct BatchToken {
    int32_t id;
    int position;
    int slice;
};

// A piece of attention work for one key/value head. Decode: one cache block, `index` counting blocks. Prefill: all
// blocks for `kQueryTileTokens` tokens, `index` counting such tiles.
struct AttentionTask {
    int slice;
    int kv_head;
    int index;
    int64_t cumulative_cost;  // of this task and all before it
};

struct Batch {
    std::vector<BatchToken> tokens;
    std::vector<SequenceSlice> slices;
    std::vector<AdapterSegment> segments;  // only tokens with an adapter
    std::vector<AttentionTask> tasks;
    std::vector<int> logit_tokens;  // tokens whose logits are needed
    float* logits = nullptr;
    bool has_prefill = false;
    int num_partials = 0;  // partial attention results of decode tokens, each for the queries of a key/value head

    int size() const { return int(tokens.size()); }
    // Record the adapter of the next token; null for none.
    void add_adapter(const LoraAdapter* adapter);
    // Fill `tasks`, `has_prefill` and the positions of partial results, once all tokens are there.
    void plan_attention(const ModelConfig& config);
};

}  // namespace empu
