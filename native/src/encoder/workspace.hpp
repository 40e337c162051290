// Working memory of the text encoder.
#pragma once

#include <vector>

#include "encoder/encoder.hpp"
#include "model/workspace.hpp"

namespace empu {

// Texts of about this many tokens run together; their activations stay in the second-level cache.
inline constexpr int kChunkTokens = 128;

// Memory of one thread. Tensors are (tokens, columns of one attention unit) where nothing else is said.
struct EncoderScratch {
    EncoderScratch(const EncoderConfig& config, int tokens, int unit_columns);

    Memory query, key, value, attention;
    Memory hidden;                                 // (tokens, 32)
    Memory query_bf16;                             // (tokens, head_dim)
    Memory block_keys, block_values;               // one block of one head, as `attend` wants it
    Memory partial_values;                         // (tokens, padded head_dim)
    std::vector<float> max_scores, weight_sums;    // (tokens,)
    std::vector<int> low, high;                    // (tokens,) visible keys of a block
};

// Memory for the tokens of one chunk, shared by the threads that work on it.
struct EncoderWorkspace {
    EncoderWorkspace(const EncoderConfig& config, int tokens, int unit_columns, int threads);

    Memory x;                                  // (tokens, dim), the residual stream
    ActivationBuffer input, attention, hidden;  // inputs of products
    std::vector<EncoderScratch> scratch;
};

}  // namespace empu
