// Attention of packed documents, forward and backward.
#include <cmath>

#include "tune/layer_pass.hpp"

namespace empu {

namespace {

// Call visit(key, token) for the keys that a document sees: those of the prefix, then its own. `token` is the row in
// the batch.
template <typename DocumentHead, typename Visit>
void for_each_key(const DocumentHead& item, const Visit& visit) {
    for (int key = 0; key < item.prefix; ++key) visit(key, key);
    for (int key = 0; key < item.length; ++key) visit(item.prefix + key, item.start + key);
}

}  // namespace

float LayerPass::score_scale() const { return float(1.0 / std::sqrt(double(config_.head_dim))); }

// Call visit(query, token, head, batch_offset, tile_offset) for the queries of document tokens [begin, begin + count).
// The offsets are those of a query's elements in the batch (tokens, q_dim) and in a tile (queries, head_dim).
template <typename Visit>
void LayerPass::for_each_query(const DocumentHead& item, int begin, int count, const Visit& visit) const {
    const int heads = config_.heads_per_kv_head();
    for (int t = 0; t < count; ++t) {
        for (int i = 0; i < heads; ++i) {
            const size_t head = size_t(item.kv_head * heads + i), head_dim = size_t(config_.head_dim);
            const int token = item.start + begin + t;
            visit(t * heads + i, token, head, size_t(token) * size_t(config_.q_dim()) + head * head_dim,
                  size_t(t * heads + i) * head_dim);
        }
    }
}

// Gather one head's keys or values into (keys, head_dim), and transposed into (head_dim, width), padded with zeros.
void LayerPass::gather(const DocumentHead& item, std::vector<Memory>& from, std::vector<float>& out,
                       std::vector<float>* transposed) const {
    const int head_dim = config_.head_dim, keys = item.prefix + item.length, width = round_up(keys, kLanes);
    for_each_key(item, [&](int key, int token) {
        const float* source = row(from, token, config_.kv_dim()) + item.kv_head * head_dim;
        std::copy_n(source, head_dim, out.data() + size_t(key) * size_t(head_dim));
        if (!transposed) return;
        for (int d = 0; d < head_dim; ++d) (*transposed)[size_t(d) * size_t(width) + size_t(key)] = source[d];
    });
    std::fill(out.data() + size_t(keys) * size_t(head_dim), out.data() + size_t(width) * size_t(head_dim), 0.0f);
    if (!transposed) return;
    for (int d = 0; d < head_dim; ++d) {
        std::fill(transposed->data() + size_t(d) * size_t(width) + keys,
                  transposed->data() + size_t(d + 1) * size_t(width), 0.0f);
    }
}

// Write the gradients of a document's own keys or values to their rows, and add those of the prefix, which all
// documents contribute to.
void LayerPass::scatter(const DocumentHead& item, const std::vector<float>& from, float* to,
                        std::vector<float>& prefix) const {
    const size_t head_dim = size_t(config_.head_dim), kv_dim = size_t(config_.kv_dim());
    const float* source = from.data();
    for (int key = 0; key < item.prefix; ++key, source += head_dim) {
        float* sum = prefix.data() + size_t(key) * kv_dim + size_t(item.kv_head) * head_dim;
        for (size_t d = 0; d < head_dim; ++d) sum[d] += source[d];
    }
    for (int key = 0; key < item.length; ++key, source += head_dim) {
        std::copy_n(source, head_dim, to + size_t(item.start + key) * kv_dim + size_t(item.kv_head) * head_dim);
    }
}

void LayerPass::attend(const DocumentHead& item) const {
    auto& saved = transformer_.saved_;
    const int heads = config_.heads_per_kv_head();
    const size_t head_dim = size_t(config_.head_dim), width = size_t(round_up(item.prefix + item.length, kLanes));
    gather(item, saved.k, scratch_.keys, &scratch_.keys_transposed);
    gather(item, saved.v, scratch_.values, nullptr);
    const float* q = saved.q[saved_layer()].as<float>();
    float* out = saved.attention[saved_layer()].as<float>();
    for (int begin = 0; begin < item.length; begin += kQueryTokens) {
        const int count = std::min(kQueryTokens, item.length - begin), queries = count * heads;
        const int visible = round_up(item.prefix + begin + count, kLanes);
        for_each_query(item, begin, count, [&](int, int, size_t, size_t batch_offset, size_t tile_offset) {
            copy_scaled(q + batch_offset, scratch_.queries.data() + tile_offset, score_scale());
        });
        tune_ops_.matmul({queries, visible, int(head_dim), scratch_.queries.data(), head_dim, 1,
                          scratch_.keys_transposed.data(), width, scratch_.scores.data(), width, false});
        for_each_query(item, begin, count, [&](int query, int token, size_t head, size_t, size_t) {
            *(row(saved.log_sums, token, config_.n_heads) + head) = tune_ops_.softmax(
                scratch_.scores.data() + size_t(query) * width, item.prefix + begin + query / heads + 1, visible);
        });
        tune_ops_.matmul({queries, int(head_dim), visible, scratch_.scores.data(), width, 1, scratch_.values.data(),
                          head_dim, scratch_.attention.data(), head_dim, false});
        for_each_query(item, begin, count, [&](int, int, size_t, size_t batch_offset, size_t tile_offset) {
            std::copy_n(scratch_.attention.data() + tile_offset, head_dim, out + batch_offset);
        });
    }
}

void LayerPass::attend_backward(const DocumentHead& item) const {
    auto& saved = transformer_.saved_;
    const int heads = config_.heads_per_kv_head();
    const size_t head_dim = size_t(config_.head_dim), width = size_t(round_up(item.prefix + item.length, kLanes));
    gather(item, saved.k, scratch_.keys, &scratch_.keys_transposed);
    gather(item, saved.v, scratch_.values, &scratch_.values_transposed);
    std::fill_n(scratch_.grad_keys.data(), width * head_dim, 0.0f);
    std::fill_n(scratch_.grad_values.data(), width * head_dim, 0.0f);
    const float* q = saved.q[size_t(layer_)].as<float>();
    const float* out = saved.attention[size_t(layer_)].as<float>();
    const float* grad_out = transformer_.grad_attention_.as<float>();
    for (int begin = 0; begin < item.length; begin += kQueryTokens) {
        const int count = std::min(kQueryTokens, item.length - begin), queries = count * heads;
        const int visible = round_up(item.prefix + begin + count, kLanes);
        for_each_query(item, begin, count, [&](int, int, size_t, size_t batch_offset, size_t tile_offset) {
            copy_scaled(q + batch_offset, scratch_.queries.data() + tile_offset, score_scale());
            std::copy_n(grad_out + batch_offset, head_dim, scratch_.attention.data() + tile_offset);
        });
        tune_ops_.matmul({queries, visible, int(head_dim), scratch_.queries.data(), head_dim, 1,
                          scratch_.keys_transposed.data(), width, scratch_.scores.data(), width, false});
        tune_ops_.matmul({queries, visible, int(head_dim), scratch_.attention.data(), head_dim, 1,
                          scratch_.values_transposed.data(), width, scratch_.grad_scores.data(), width, false});
        for_each_query(
            item, begin, count, [&](int query, int token, size_t head, size_t batch_offset, size_t tile_offset) {
                float* weights = scratch_.scores.data() + size_t(query) * width;
                tune_ops_.softmax_from_log_sum(weights, item.prefix + begin + query / heads + 1, visible,
                                               *(row(saved.log_sums, token, config_.n_heads) + head));
                const float mean =
                    tune_ops_.dot(out + batch_offset, scratch_.attention.data() + tile_offset, int(head_dim));
                tune_ops_.softmax_backward(weights, scratch_.grad_scores.data() + size_t(query) * width, visible, mean,
                                           1.0f);
            });
        tune_ops_.matmul({queries, int(head_dim), visible, scratch_.grad_scores.data(), width, 1, scratch_.keys.data(),
                          head_dim, scratch_.grad_queries.data(), head_dim, false});
        for_each_query(item, begin, count, [&](int, int, size_t, size_t batch_offset, size_t tile_offset) {
            copy_scaled(scratch_.grad_queries.data() + tile_offset, transformer_.grad_q_.as<float>() + batch_offset,
                        score_scale());
        });
        tune_ops_.matmul({visible, int(head_dim), queries, scratch_.grad_scores.data(), 1, width,
                          scratch_.queries.data(), head_dim, scratch_.grad_keys.data(), head_dim, true});
        tune_ops_.matmul({visible, int(head_dim), queries, scratch_.scores.data(), 1, width, scratch_.attention.data(),
                          head_dim, scratch_.grad_values.data(), head_dim, true});
    }
    scatter(item, scratch_.grad_keys, transformer_.grad_k_.as<float>(), scratch_.grad_prefix_keys);
    scatter(item, scratch_.grad_values, transformer_.grad_v_.as<float>(), scratch_.grad_prefix_values);
}

}  // namespace empu
