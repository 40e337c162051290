// One thread's part of a forward or backward pass through the layers of a LoraTransformer.
#pragma once

#include <algorithm>

#include "tune/lora_transformer.hpp"

namespace empu {

// Tokens (a multiple of 16) that go through a layer's products at once, so that what they need stays cached.
inline constexpr int kChunkTokens = 96;
inline constexpr int kQueryTokens = 16;  // tokens whose queries attend at once

// Working memory of one thread.
struct LoraTransformer::Scratch {
    std::vector<float> normed, grad_normed;  // (kChunkTokens, dim)
    std::vector<float> hidden, grad_hidden;  // (kChunkTokens, ffn_dim)
    std::vector<float> grad_lora_hidden;     // (kChunkTokens, padded rank)
    std::vector<int8_t> quantised;
    std::vector<float> scales, scaled_sums, tile_scales;
    std::vector<int32_t> int_sums;
    // Attention of one head: keys and values, also transposed; queries, results and scores of kQueryTokens tokens.
    std::vector<float> keys, keys_transposed, values, values_transposed, queries, attention, grad_queries;
    std::vector<float> scores, grad_scores, grad_keys, grad_values;
    std::vector<float> grad_prefix_keys, grad_prefix_values;  // (prefix, kv_dim), this thread's part of the sum

    Activations activations(int cols, float* floats) {
        return {cols,
                cols,
                floats,
                quantised.data(),
                scales.data(),
                scaled_sums.data(),
                int_sums.data(),
                false,
                tile_scales.data()};
    }
};

class LayerPass {
  public:
    // save: keep the activations of every layer, which the backward pass needs.
    LayerPass(LoraTransformer& transformer, int thread, bool save)
        : transformer_(transformer),
          config_(transformer.config_),
          ops_(transformer.ops_),
          tune_ops_(transformer.tune_ops_),
          scratch_(*transformer.scratch_[size_t(thread)]),
          thread_(thread),
          threads_(transformer.pool_.active_threads()),
          save_(save) {}

    void forward(const float* x, const float* parameters, float* out);
    void backward(const float* grad_out, float* grad_parameters);

  private:
    using DocumentHead = LoraTransformer::DocumentHead;

    // Linear layers, for tokens [first, first + count).
    void project_qkv(int first, int count) const;
    void feed_forward(int first, int count) const;  // includes the output projection of attention, which precedes it
    void feed_forward_backward(int first, int count) const;
    void project_qkv_backward(int first, int count) const;
    Activations quantise(float* floats, int cols, int count) const;
    float* rms_norm(const float* x, const std::vector<float>& weight, int count) const;
    void rms_norm_backward(const float* x, const std::vector<float>& weight, int count, float* grad_x) const;
    void project(int projection, const Activations& input, int first, int count, float* out, Store store) const;
    void project_backward(int projection, const Activations& grad_out, const float* x, int first, int count,
                          float* grad_x, Store store) const;
    void rotate(float* x, int first, int count, int heads, bool inverse) const;

    // Attention.
    void attend(const DocumentHead& item) const;
    void attend_backward(const DocumentHead& item) const;
    void gather(const DocumentHead& item, std::vector<Memory>& from, std::vector<float>& out,
                std::vector<float>* transposed) const;
    void scatter(const DocumentHead& item, const std::vector<float>& from, float* to, std::vector<float>& prefix) const;
    template <typename Visit>
    void for_each_query(const DocumentHead& item, int begin, int count, const Visit& visit) const;
    void copy_scaled(const float* from, float* to, float factor) const {
        for (int d = 0; d < config_.head_dim; ++d) to[d] = from[d] * factor;
    }
    float score_scale() const;

    // Row `token` of a layer's activations, which are `width` floats wide.
    float* row(std::vector<Memory>& layers, int token, int width) const {
        return layers[saved_layer()].as<float>() + size_t(token) * size_t(width);
    }
    size_t saved_layer() const { return size_t(save_ ? layer_ : 0); }
    float* stream(int layer) const { return transformer_.saved_.x[size_t(save_ ? layer : layer % 2)].as<float>(); }
    float* stream(int layer, int token) const { return stream(layer) + size_t(token) * size_t(config_.dim); }
    float* lora_hidden(int projection, int token) const {
        return transformer_.saved_.lora_hidden[saved_layer()][size_t(projection)].as<float>() +
               size_t(token) * size_t(config_.padded_rank());
    }
    LoraTransformer::FrozenLayer& layer() const { return transformer_.layers_[size_t(layer_)]; }

    // Call act(first, count) for chunks of this thread's tokens.
    template <typename Act>
    void for_each_chunk(const Act& act) const {
        const Range range = thread_range(transformer_.tokens_, thread_, threads_);
        for (int first = range.begin; first < range.end; first += kChunkTokens) {
            act(first, std::min(kChunkTokens, range.end - first));
        }
    }

    // Call act(item) for this thread's documents and heads, shared out by cost.
    template <typename Act>
    void for_each_document_head(const Act& act) const {
        const int64_t total = transformer_.document_heads_.back().cumulative_cost;
        const int64_t begin = total * thread_ / threads_, end = total * (thread_ + 1) / threads_;
        for (const DocumentHead& item : transformer_.document_heads_) {
            if (item.cumulative_cost > begin && item.cumulative_cost <= end) act(item);
        }
    }

    void copy_tokens(const float* from, float* to, int width) const {
        for_each_chunk([&](int first, int count) {
            std::copy_n(from + size_t(first) * size_t(width), size_t(count) * size_t(width),
                        to + size_t(first) * size_t(width));
        });
    }

    LoraTransformer& transformer_;
    const TuneConfig& config_;
    const Ops& ops_;
    const TuneOps& tune_ops_;
    LoraTransformer::Scratch& scratch_;
    const int thread_, threads_;
    const bool save_;
    int layer_ = 0;
};

}  // namespace empu
