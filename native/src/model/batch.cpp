#include "model/batch.hpp"

#include <algorithm>

namespace empu {

namespace {

// Cost of a cache block for one decode token and head. At the last block, the token's own key and value are stored too.
constexpr int kBlockCost = 4, kLastBlockCost = 7;

}  // namespace

void Batch::add_adapter(const LoraAdapter* adapter) {
    if (!adapter) return;
    if (!segments.empty() && segments.back().adapter == adapter &&
        segments.back().first + segments.back().count == size()) {
        ++segments.back().count;
    } else {
        segments.push_back({adapter, size(), 1});
    }
}

void Batch::plan_attention(const ModelConfig& config) {
    for (const SequenceSlice& slice : slices) has_prefill |= slice.is_prefill();
    int64_t cost = 0;
    for (size_t index = 0; index < slices.size(); ++index) {
        SequenceSlice& slice = slices[index];
        const int first = config.first_visible(slice.position) / kBlockKeys, last = slice.position / kBlockKeys;
        if (!slice.is_prefill()) {  // in the order of memory
            for (int block = first; block <= last; ++block) {
                for (int head = 0; head < config.n_kv_heads; ++head) {
                    cost += block < last ? kBlockCost : kLastBlockCost;
                    tasks.push_back({int(index), head, block, cost});
                }
            }
        } else {
            for (int head = 0; head < config.n_kv_heads; ++head) {
                for (int tile = 0; tile * kQueryTileTokens < slice.count; ++tile) {
                    const int count = std::min(kQueryTileTokens, slice.count - tile * kQueryTileTokens);
                    const int end = slice.position + tile * kQueryTileTokens + count;
                    const int begin = config.first_visible(end - count);
                    cost += int64_t{count} * ((end - 1) / kBlockKeys - begin / kBlockKeys + 1);
                    tasks.push_back({int(index), head, tile, cost});
                }
            }
        }
        slice.first_partial = num_partials;
        if (!slice.is_prefill()) num_partials += config.n_kv_heads * (last - first + 1);
    }
}

}  // namespace empu
