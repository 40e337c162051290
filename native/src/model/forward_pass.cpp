// The transformer, with the same steps in the same order as model/transformer.py.
#include "model/forward_pass.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>

namespace empu {

namespace {

bool is_quantised(const Matrix& matrix) { return matrix.format != WeightFormat::Float32; }

// One thread's part of a forward pass. Threads meet at barriers; between two barriers each writes only its own part.
class ForwardPass {
  public:
    ForwardPass(const ForwardContext& context, int thread)
        : model_(context.model),
          config_(context.model.config),
          ops_(context.ops),
          pool_(context.pool),
          cache_(context.cache),
          cosines_(context.cosines),
          sines_(context.sines),
          batch_(context.batch),
          workspace_(context.workspace),
          scratch_(context.workspace.scratch[size_t(thread)]),
          thread_(thread),
          tokens_(context.batch.size()) {}

    void run() {
        embed_tokens();
        for (int layer = 0; layer < config_.n_layers; ++layer) {
            attention(layer);
            feed_forward(layer);
        }
        compute_logits();
    }

  private:
    void embed_tokens() {
        const Range range = thread_range(tokens_);
        for (int t = range.begin; t < range.end; ++t) unpack_row(model_.embedding, batch_.tokens[size_t(t)].id, x(t));
        pool_.barrier();
    }

    // x += o(attend(rotate(q), rotate(k), v)), with q, k and v projected from attention_norm(x).
    void attention(int layer) {
        project_qkv(layer);
        attend(layer);
        project_attention(layer);
    }

    // x += down(silu(gate) * up), with gate and up projected from ffn_norm(x).
    void feed_forward(int index) {
        const LayerWeights& layer = model_.layers[size_t(index)];
        const bool quantise = is_quantised(layer.gate) || is_quantised(layer.up);
        const Activations input = prepare_input(config_.dim, tokens_, [&](const Activations& out, int t) {
            rms_norm(out, t, t, layer.ffn_norm, quantise);
        });
        apply_lora_a(index, {kGate, kUp}, input);
        Activations hidden = workspace_.hidden_input.view(config_.ffn_dim);
        hidden.floats = workspace_.hidden.as<float>();
        if (is_quantised(layer.down)) {
            const Range range = thread_range(config_.ffn_dim / kGroupSize);
            for (int group = range.begin; group < range.end; ++group) {
                project_gate_and_up(index, input, 2 * group, 2 * group + 2);
                for (int t = 0; t < tokens_; ++t) {
                    ops_.quantise(hidden.floats + size_t(t) * size_t(hidden.stride) + size_t(group * kGroupSize),
                                  hidden, t, group, group + 1);
                }
            }
        } else {
            const Range range = thread_range(layer.gate.tiles);
            project_gate_and_up(index, input, range.begin, range.end);
        }
        pool_.barrier();
        apply_lora_a(index, {kDown}, hidden);
        project(index, kDown, 0, layer.down, hidden, workspace_.x.as<float>(), size_t(workspace_.x_stride), Store::Add);
        pool_.barrier();
    }

    void compute_logits() {
        const int count = int(batch_.logit_tokens.size());
        if (count == 0) return;
        const Matrix& output = model_.output_matrix();
        const auto normalise_row = [&](const Activations& out, int row) {
            rms_norm(out, row, batch_.logit_tokens[size_t(row)], model_.norm, is_quantised(output));
        };
        // Quantisation just before the logits causes three tenths of the whole quantisation error, so it uses half
        // groups.
        const Activations input = prepare_input(config_.dim, count, normalise_row, true);
        matmul(output, input, count, batch_.logits, size_t(output.tiles) * kLanes, Store::Set);
    }

    // --- Products ---

    Range thread_range(int count) const { return empu::thread_range(count, thread_, pool_.active_threads()); }
    float* x(int token) const { return workspace_.x.as<float>() + size_t(token) * size_t(workspace_.x_stride); }

    // Fill rows 0 to count - 1 of a product's input with `fill(input, row)`: a few rows by every thread for itself,
    // many by all threads together.
    template <typename Fill>
    Activations prepare_input(int cols, int count, const Fill& fill, bool half_groups = false) {
        if (count <= kMaxRedundantTokens) {
            const Activations input = scratch_.input.view(cols, half_groups);
            for (int row = 0; row < count; ++row) fill(input, row);
            return input;
        }
        const Activations input = workspace_.input.view(cols, half_groups);
        const Range range = thread_range(count);
        for (int row = range.begin; row < range.end; ++row) fill(input, row);
        pool_.barrier();
        return input;
    }

    void quantise_row(const Activations& activations, int row) {
        ops_.quantise(activations.floats + size_t(row) * size_t(activations.stride), activations, row, 0,
                      activations.groups());
    }

    // Row `row` of `out` = rms_norm(x of `token`), also quantised if `quantise` is set.
    void rms_norm(const Activations& out, int row, int token, const std::vector<float>& weight, bool quantise) {
        float* normed = out.floats + size_t(row) * size_t(out.stride);
        ops_.rms_norm(x(token), weight.data(), config_.dim, config_.norm_eps, normed);
        if (quantise) quantise_row(out, row);
    }

    // This thread's tiles of a product.
    void matmul(const Matrix& matrix, const Activations& input, int count, float* out, size_t ld, Store store) {
        const Range range = thread_range(matrix.tiles);
        ops_.matmul({&matrix, range.begin, range.end}, input, count, out, ld, store);
    }

    // W x + B A x for all tokens. `index` is the position of the projection among those with the same input.
    void project(int layer, Projection projection, int index, const Matrix& matrix, const Activations& input,
                 float* out, size_t ld, Store store) {
        matmul(matrix, input, tokens_, out, ld, store);
        const Range range = thread_range(matrix.tiles);
        add_lora_b(layer, projection, index, range.begin, range.end, out, ld);
    }

    // Memory for A x of a segment's tokens.
    Activations lora_hidden(int index, const AdapterSegment& segment, const Matrix& b) {
        Activations hidden =
            (tokens_ <= kMaxRedundantTokens ? scratch_.lora_hidden : workspace_.lora_hidden)[size_t(index)].view(
                b.cols);
        const size_t first = size_t(segment.first) * kMaxRank;
        hidden.floats += first;
        hidden.quantised += first;
        hidden.scales += first / kGroupSize;
        hidden.scaled_sums += first / kGroupSize;
        hidden.int_sums += first / kGroupSize;
        hidden.tile_scales = nullptr;
        return hidden;
    }

    // Compute A x of the adapters, for projections with the same input x.
    void apply_lora_a(int layer, std::initializer_list<Projection> projections, const Activations& input) {
        if (batch_.segments.empty()) return;
        const Range range = tokens_ <= kMaxRedundantTokens ? Range{0, tokens_} : thread_range(tokens_);
        int index = 0;
        for (const Projection projection : projections) {
            for (const AdapterSegment& segment : batch_.segments) {
                apply_lora_a(layer, projection, index, segment, input, range);
            }
            ++index;
        }
        if (tokens_ > kMaxRedundantTokens) pool_.barrier();
    }

    void apply_lora_a(int layer, Projection projection, int index, const AdapterSegment& segment,
                      const Activations& input, const Range& range) {
        const LoraMatrices& lora = segment.adapter->at(layer, projection);
        const int begin = std::max(segment.first, range.begin);
        const int count = std::min(segment.first + segment.count, range.end) - begin;
        if (!lora.is_present() || count <= 0) return;
        const Activations out = tokens_from(lora_hidden(index, segment, lora.b), begin - segment.first);
        std::fill_n(out.floats, size_t(count) * size_t(out.stride), 0.0f);
        ops_.matmul({&lora.a, 0, lora.a.tiles}, tokens_from(input, begin), count, out.floats, size_t(out.stride),
                    Store::Set);
        if (!is_quantised(lora.b)) return;
        for (int t = 0; t < count; ++t) quantise_row(out, t);
    }

    // Add B (A x) of the adapters to tiles [begin, end) of the product with the model's own matrix.
    void add_lora_b(int layer, Projection projection, int index, int begin, int end, float* out, size_t ld) {
        for (const AdapterSegment& segment : batch_.segments) {
            const LoraMatrices& lora = segment.adapter->at(layer, projection);
            if (!lora.is_present()) continue;
            ops_.matmul({&lora.b, begin, end}, lora_hidden(index, segment, lora.b), segment.count,
                        out + size_t(segment.first) * ld, ld, Store::Add);
        }
    }

    void project_qkv(int index) {
        const LayerWeights& layer = model_.layers[size_t(index)];
        const bool quantise = is_quantised(layer.q) || is_quantised(layer.k) || is_quantised(layer.v);
        const Activations input = prepare_input(config_.dim, tokens_, [&](const Activations& out, int t) {
            rms_norm(out, t, t, layer.attention_norm, quantise);
        });
        const size_t q_stride = size_t(workspace_.q_stride), kv_stride = size_t(workspace_.kv_stride);
        apply_lora_a(index, {kQ, kK, kV}, input);
        project(index, kQ, 0, layer.q, input, workspace_.q.as<float>(), q_stride, Store::Set);
        project(index, kK, 1, layer.k, input, workspace_.k.as<float>(), kv_stride, Store::Set);
        project(index, kV, 2, layer.v, input, workspace_.v.as<float>(), kv_stride, Store::Set);
        pool_.barrier();
    }

    void project_attention(int index) {
        const LayerWeights& layer = model_.layers[size_t(index)];
        const Activations input = prepare_input(config_.q_dim(), tokens_, [&](const Activations& out, int t) {
            const SequenceSlice& slice = batch_.slices[size_t(batch_.tokens[size_t(t)].slice)];
            float* row = out.floats + size_t(t) * size_t(out.stride);
            if (slice.is_prefill()) {
                std::copy_n(workspace_.attention.as<float>() + size_t(t) * size_t(workspace_.q_stride), config_.q_dim(),
                            row);
            } else {
                merge_partials(slice, row);
            }
            if (is_quantised(layer.o)) quantise_row(out, t);
        });
        apply_lora_a(index, {kO}, input);
        project(index, kO, 0, layer.o, input, workspace_.x.as<float>(), size_t(workspace_.x_stride), Store::Add);
        pool_.barrier();
    }

    // hidden = silu(gate) * up, for tiles [begin, end).
    void project_gate_and_up(int index, const Activations& input, int begin, int end) {
        const LayerWeights& layer = model_.layers[size_t(index)];
        float* hidden = workspace_.hidden.as<float>();
        const size_t ld = size_t(workspace_.ffn_stride);
        if (layer.gate.format == layer.up.format && batch_.segments.empty()) {
            return ops_.matmul_swiglu({&layer.gate, begin, end}, layer.up, input, tokens_, hidden, ld);
        }
        float* up = workspace_.up.as<float>();
        ops_.matmul({&layer.gate, begin, end}, input, tokens_, hidden, ld, Store::Set);
        ops_.matmul({&layer.up, begin, end}, input, tokens_, up, ld, Store::Set);
        add_lora_b(index, kGate, 0, begin, end, hidden, ld);
        add_lora_b(index, kUp, 1, begin, end, up, ld);
        for (int t = 0; t < tokens_; ++t) {
            const size_t offset = size_t(t) * ld + size_t(begin * kLanes);
            ops_.swiglu(hidden + offset, up + offset, (end - begin) * kLanes);
        }
    }

    // --- Attention ---

    const float* cosines(int position) const { return cosines_ + size_t(position) * size_t(config_.head_dim / 2); }
    const float* sines(int position) const { return sines_ + size_t(position) * size_t(config_.head_dim / 2); }

    // Store keys and values in the cache, then attend to it. This thread does its share of the tasks, by cost.
    void attend(int layer) {
        if (batch_.has_prefill) {
            const Range range = thread_range(tokens_ * config_.n_kv_heads);
            for (int i = range.begin; i < range.end; ++i) {
                store_key_value(layer, i / config_.n_kv_heads, i % config_.n_kv_heads);
            }
            pool_.barrier();
        }
        const int64_t total = batch_.tasks.back().cumulative_cost, threads = pool_.active_threads();
        const int64_t begin = total * thread_ / threads, end = total * (thread_ + 1) / threads;
        int rotated_slice = -1;  // whose queries are in `scratch_`
        for (const AttentionTask& task : batch_.tasks) {
            if (task.cumulative_cost <= begin) continue;
            if (task.cumulative_cost > end) break;
            if (batch_.slices[size_t(task.slice)].is_prefill()) {
                attend_prefill(layer, task);
                rotated_slice = -1;
                continue;
            }
            if (task.slice != rotated_slice) {
                rotated_slice = task.slice;
                for (int head = 0; head < config_.n_kv_heads; ++head) {
                    rotate_queries(batch_.slices[size_t(task.slice)].first, head, decode_queries(head));
                }
            }
            attend_decode(layer, task);
        }
        pool_.barrier();
    }

    // Rotate the queries of token `t` for one key/value head, scale them to base 2 and round them to bfloat16.
    void rotate_queries(int t, int kv_head, uint16_t* out) {
        const BatchToken& token = batch_.tokens[size_t(t)];
        const float factor = float(1.4426950408889634 / std::sqrt(double(config_.head_dim)));  // scores to base 2
        for (int i = 0; i < config_.heads_per_kv_head(); ++i, out += config_.head_dim) {
            const int head = kv_head * config_.heads_per_kv_head() + i;
            const float* q =
                workspace_.q.as<float>() + size_t(t) * size_t(workspace_.q_stride) + size_t(head * config_.head_dim);
            float rotated[kMaxHeadDim];
            ops_.rotate(q, cosines(token.position), sines(token.position), config_.head_dim / 2, factor, rotated);
            ops_.to_bfloat16(rotated, config_.head_dim, out);
        }
    }

    // Rotate the key of token `t` and one head, and store it and the value in the cache.
    void store_key_value(int layer, int t, int head) {
        const BatchToken& token = batch_.tokens[size_t(t)];
        const size_t offset = size_t(t) * size_t(workspace_.kv_stride) + size_t(head) * size_t(config_.head_dim);
        const Sequence& sequence = *batch_.slices[size_t(token.slice)].sequence;
        const float* value = workspace_.v.as<float>() + offset;
        float key[kMaxHeadDim];
        ops_.rotate(workspace_.k.as<float>() + offset, cosines(token.position), sines(token.position),
                    config_.head_dim / 2, 1.0f, key);
        if (cache_.format() == CacheFormat::Int8) {
            const KvCache::SlotInt8 slot = cache_.slot_int8(sequence, token.position, layer, head);
            int8_t rounded_key[kMaxHeadDim], rounded_value[kMaxHeadDim];
            ops_.to_int8(key, config_.head_dim, rounded_key, slot.key_scale);
            ops_.to_int8(value, config_.head_dim, rounded_value, slot.value_scale);
            write_slot(rounded_key, rounded_value, slot.key, slot.value);
        } else {
            const KvCache::SlotBf16 slot = cache_.slot_bf16(sequence, token.position, layer, head);
            uint16_t rounded_key[kMaxHeadDim], rounded_value[kMaxHeadDim];
            ops_.to_bfloat16(key, config_.head_dim, rounded_key);
            ops_.to_bfloat16(value, config_.head_dim, rounded_value);
            write_slot(rounded_key, rounded_value, slot.key, slot.value);
        }
    }

    // Write key and value of one position, (head_dim,) each, to a block.
    template <typename Element>
    void write_slot(const Element* key, const Element* value, Element* key_slot, Element* value_slot) const {
        for (int d = 0; d < config_.head_dim; d += 2) {
            std::memcpy(key_slot + size_t(d / 2) * KvCache::kKeyStride, key + d, 2 * sizeof(Element));
        }
        for (int d = 0; d < config_.head_dim; ++d) value_slot[2 * d] = value[d];
    }

    void attend_block(const Sequence& sequence, int block, int layer, int head, const uint16_t* queries, int count,
                      const PartialAttention& out, Store store) {
        const int *low = scratch_.low.data(), *high = scratch_.high.data();
        if (cache_.format() == CacheFormat::Int8) {
            ops_.attend_int8(queries, config_.head_dim, count, cache_.block_int8(sequence, block, layer, head),
                             config_.head_dim, low, high, out, store);
        } else {
            ops_.attend(queries, config_.head_dim, count, cache_.block_bf16(sequence, block, layer, head),
                        config_.head_dim, low, high, out, store);
        }
    }

    // Attention of a decode token to one block. At its last block, first store the token's own key and value.
    void attend_decode(int layer, const AttentionTask& task) {
        const SequenceSlice& slice = batch_.slices[size_t(task.slice)];
        const int begin = task.index * kBlockKeys;
        const int low = std::max(config_.first_visible(slice.position) - begin, 0);
        const int high = std::min(slice.position + 1 - begin, kBlockKeys);
        if (!batch_.has_prefill && slice.position < begin + kBlockKeys)
            store_key_value(layer, slice.first, task.kv_head);
        for (int i = 0; i < config_.heads_per_kv_head(); ++i) {
            scratch_.low[size_t(i)] = low;
            scratch_.high[size_t(i)] = high;
        }
        attend_block(*slice.sequence, task.index, layer, task.kv_head, decode_queries(task.kv_head),
                     config_.heads_per_kv_head(), partial(partial_index(slice, task.kv_head, task.index)), Store::Set);
    }

    uint16_t* decode_queries(int kv_head) {
        return scratch_.queries.as<uint16_t>() + kv_head * config_.heads_per_kv_head() * config_.head_dim;
    }

    // Attention of a tile of prefill tokens to all blocks, in order.
    void attend_prefill(int layer, const AttentionTask& task) {
        const SequenceSlice& slice = batch_.slices[size_t(task.slice)];
        const int begin = slice.first + task.index * kQueryTileTokens;
        const int count = std::min(kQueryTileTokens, slice.first + slice.count - begin);
        const int heads = config_.heads_per_kv_head(), queries = count * heads;
        const int first_position = slice.position + begin - slice.first;
        for (int t = 0; t < count; ++t) {
            rotate_queries(begin + t, task.kv_head, scratch_.queries.as<uint16_t>() + t * heads * config_.head_dim);
        }
        const PartialAttention sum = {scratch_.max_scores.data(), scratch_.weight_sums.data(),
                                      scratch_.values.as<float>()};
        clear_partial(sum, queries, workspace_.padded_head_dim);
        for (int block = config_.first_visible(first_position) / kBlockKeys;
             block * kBlockKeys < first_position + count; ++block) {
            for (int i = 0; i < queries; ++i) {
                const int position = first_position + i / heads;
                scratch_.low[size_t(i)] = std::max(config_.first_visible(position) - block * kBlockKeys, 0);
                scratch_.high[size_t(i)] = std::min(position + 1 - block * kBlockKeys, kBlockKeys);
            }
            attend_block(*slice.sequence, block, layer, task.kv_head, scratch_.queries.as<uint16_t>(), queries, sum,
                         Store::Add);
        }
        for (int i = 0; i < queries; ++i) {
            const int head = task.kv_head * heads + i % heads;
            ops_.normalise(query_partial(sum, i), config_.head_dim,
                           workspace_.attention.as<float>() + size_t(begin + i / heads) * size_t(workspace_.q_stride) +
                               size_t(head * config_.head_dim));
        }
    }

    // --- Partial attention results of decode tokens ---

    int partial_index(const SequenceSlice& slice, int kv_head, int block) const {
        const int first = config_.first_visible(slice.position) / kBlockKeys;
        const int blocks = slice.position / kBlockKeys + 1 - first;
        return slice.first_partial + kv_head * blocks + block - first;
    }

    PartialAttention partial(int index) {
        const size_t first = size_t(index) * size_t(config_.heads_per_kv_head());
        return {workspace_.partial_max_scores.data() + first, workspace_.partial_weight_sums.data() + first,
                workspace_.partial_values.as<float>() + first * size_t(workspace_.padded_head_dim)};
    }

    PartialAttention query_partial(const PartialAttention& partial, int query) const {
        return {partial.max_score + query, partial.weight_sum + query,
                partial.values + size_t(query) * size_t(workspace_.padded_head_dim)};
    }

    // Other threads wrote many of the partial results, so they are prefetched before their turn.
    void prefetch_partials(const SequenceSlice& slice, int head, int first, int last) {
        const int kv_head = head / config_.heads_per_kv_head(), query = head % config_.heads_per_kv_head();
        for (int block = first; block <= last; ++block) {
            const float* values = query_partial(partial(partial_index(slice, kv_head, block)), query).values;
            for (int d = 0; d < workspace_.padded_head_dim; d += kLanes) __builtin_prefetch(values + d);
        }
    }

    // Merge the partial results of one token's blocks, in the order of the blocks.
    void merge_partials(const SequenceSlice& slice, float* out) {
        const int first = config_.first_visible(slice.position) / kBlockKeys, last = slice.position / kBlockKeys;
        for (int head = 0; head < config_.n_heads; ++head) {
            const int kv_head = head / config_.heads_per_kv_head(), query = head % config_.heads_per_kv_head();
            const PartialAttention sum = {scratch_.max_scores.data(), scratch_.weight_sums.data(),
                                          scratch_.values.as<float>()};
            *sum.weight_sum = 0;
            if (head + 1 < config_.n_heads) prefetch_partials(slice, head + 1, first, last);
            for (int block = first; block <= last; ++block) {
                ops_.merge(sum, query_partial(partial(partial_index(slice, kv_head, block)), query), config_.head_dim);
            }
            ops_.normalise(sum, config_.head_dim, out + head * config_.head_dim);
        }
    }

    const Model& model_;
    const ModelConfig& config_;
    const Ops& ops_;
    ThreadPool& pool_;
    const KvCache& cache_;
    const float* cosines_;
    const float* sines_;
    Batch& batch_;
    Workspace& workspace_;
    ThreadScratch& scratch_;
    int thread_;
    int tokens_;
};

}  // namespace

void run_forward_pass(const ForwardContext& context, int thread) { ForwardPass(context, thread).run(); }

}  // namespace empu
