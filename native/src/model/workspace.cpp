#include "model/workspace.hpp"

#include <algorithm>

#include "model/batch.hpp"

namespace empu {

namespace {

Memory allocate_floats(int rows, int stride) { return Memory(size_t(rows) * size_t(stride) * sizeof(float)); }

int max_cols(const ModelConfig& config) {
    return round_up(std::max({config.dim, config.q_dim(), config.ffn_dim}), kGroupSize);
}

int max_queries(const ModelConfig& config) { return kQueryTileTokens * config.heads_per_kv_head(); }

}  // namespace

ActivationBuffer::ActivationBuffer(int tokens, int max_cols)
    : floats_(allocate_floats(tokens, max_cols)),
      quantised_(size_t(tokens) * size_t(max_cols)),
      scales_(allocate_floats(tokens, 2 * max_cols / kGroupSize)),
      scaled_sums_(allocate_floats(tokens, 2 * max_cols / kGroupSize)),
      int_sums_(allocate_floats(tokens, 2 * max_cols / kGroupSize)),
      tile_scales_(tokens < kLanes ? Memory()
                                   : allocate_floats((tokens + kLanes - 1) / kLanes,
                                                     2 * max_cols / kGroupSize * kTileScaleFloats)) {}

Activations ActivationBuffer::view(int cols, bool half_groups) {
    return {cols,
            round_up(cols, kLanes),
            floats_.as<float>(),
            quantised_.as<int8_t>(),
            scales_.as<float>(),
            scaled_sums_.as<float>(),
            int_sums_.as<int32_t>(),
            half_groups,
            tile_scales_.as<float>()};
}

ThreadScratch::ThreadScratch(const ModelConfig& config)
    : input(kMaxRedundantTokens, max_cols(config)),
      lora_hidden{ActivationBuffer(kMaxRedundantTokens, kMaxRank), ActivationBuffer(kMaxRedundantTokens, kMaxRank),
                  ActivationBuffer(kMaxRedundantTokens, kMaxRank)},
      queries(size_t(std::max(max_queries(config), config.n_heads)) * size_t(config.head_dim) * sizeof(uint16_t)),
      values(allocate_floats(max_queries(config), round_up(config.head_dim, kLanes))),
      max_scores(size_t(max_queries(config))),
      weight_sums(size_t(max_queries(config))),
      low(size_t(max_queries(config))),
      high(size_t(max_queries(config))) {}

Workspace::Workspace(const ModelConfig& config, int threads)
    : x_stride(round_up(config.dim, kLanes)),
      q_stride(round_up(config.q_dim(), kLanes)),
      kv_stride(round_up(config.kv_dim(), kLanes)),
      ffn_stride(round_up(config.ffn_dim, kLanes)),
      padded_head_dim(round_up(config.head_dim, kLanes)),
      x(allocate_floats(kMaxBatchTokens, x_stride)),
      q(allocate_floats(kMaxBatchTokens, q_stride)),
      k(allocate_floats(kMaxBatchTokens, kv_stride)),
      v(allocate_floats(kMaxBatchTokens, kv_stride)),
      attention(allocate_floats(kMaxBatchTokens, q_stride)),
      hidden(allocate_floats(kMaxBatchTokens, ffn_stride)),
      up(allocate_floats(kMaxBatchTokens, ffn_stride)),
      input(kMaxBatchTokens, max_cols(config)),
      hidden_input(kMaxBatchTokens, max_cols(config)),
      lora_hidden{ActivationBuffer(kMaxBatchTokens, kMaxRank), ActivationBuffer(kMaxBatchTokens, kMaxRank),
                  ActivationBuffer(kMaxBatchTokens, kMaxRank)} {
    for (int thread = 0; thread < threads; ++thread) scratch.emplace_back(config);
}

void Workspace::reserve_partials(size_t queries) {
    if (partial_weight_sums.size() >= queries) return;
    partial_values = Memory(queries * size_t(padded_head_dim) * sizeof(float));
    partial_max_scores.resize(queries);
    partial_weight_sums.resize(queries);
}

}  // namespace empu
