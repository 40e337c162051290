// Working memory of the forward pass, allocated once. Only the partial attention results grow with the context.
#pragma once

#include <array>
#include <vector>

#include "kernels/ops.hpp"
#include "model/model.hpp"

namespace empu {

// Up to this many tokens, every thread prepares the inputs of products for itself, which saves a barrier.
inline constexpr int kMaxRedundantTokens = 2;

// Memory for the activations of some tokens, floats and quantised, viewed as Activations of any width up to `max_cols`.
class ActivationBuffer {
  public:
    ActivationBuffer(int tokens, int max_cols);
    Activations view(int cols, bool half_groups = false);

  private:
    Memory floats_, quantised_, scales_, scaled_sums_, int_sums_, tile_scales_;
};

// Memory of one thread.
struct ThreadScratch {
    explicit ThreadScratch(const ModelConfig& config);

    ActivationBuffer input;
    std::array<ActivationBuffer, 3> lora_hidden;  // A x of adapters, for projections with the same input x
    Memory queries, values;
    std::vector<float> max_scores, weight_sums;
    std::vector<int> low, high;  // visible keys of each query
};

// Memory that all threads share. Tensors are (tokens, stride).
struct Workspace {
    Workspace(const ModelConfig& config, int threads);
    // Make space for the partial results of this many queries.
    void reserve_partials(size_t queries);

    int x_stride, q_stride, kv_stride, ffn_stride, padded_head_dim;
    Memory x;          // residual stream
    Memory q, k, v;    // before the rotary embedding
    Memory attention;  // output of attention for prefill tokens
    Memory hidden, up;
    ActivationBuffer input, hidden_input;  // inputs of products
    std::array<ActivationBuffer, 3> lora_hidden;
    std::vector<ThreadScratch> scratch;
    Memory partial_values;
    std::vector<float> partial_max_scores, partial_weight_sums;
};

}  // namespace empu
