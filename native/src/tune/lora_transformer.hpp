// Transformer layers with gradients, for training LoRA adapters beside frozen weights.
//
// Frozen weights and their inputs are quantised to int8 in groups of 32, or left in float32 to compare with. Weights
// are stored by row for the forward pass, in 4 bits if that is exact, and transposed for the backward pass. Everything
// else, the adapters included, is float32. The documents of a batch are packed end to end behind a prefix that all of
// them see. Each thread owns a fixed part of the tokens, so the same batch gives the same bits on the same machine with
// the same number of threads.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "kernels/ops.hpp"
#include "kernels/tune_ops.hpp"
#include "model/model.hpp"
#include "model/thread_pool.hpp"

namespace empu {

struct TuneConfig {
    int n_layers, dim, n_heads, n_kv_heads, head_dim, ffn_dim, rank;
    float norm_eps;
    float lora_scale;  // of B A
    std::array<bool, kNumProjections> has_adapter;
    WeightFormat format = WeightFormat::Q8;  // of the frozen weights: Q8, or Float32 without rounding

    int inputs(int projection) const;
    int outputs(int projection) const;
    int padded_rank() const { return round_up(rank, kLanes); }
    int q_dim() const { return n_heads * head_dim; }
    int kv_dim() const { return n_kv_heads * head_dim; }
    int heads_per_kv_head() const { return n_heads / n_kv_heads; }
};

// `prefix` tokens, then documents of `lengths` tokens. Cosines and sines are (tokens, head_dim), as TuneOps::rotate
// takes them.
struct TuneBatch {
    int prefix = 0;
    std::vector<int> lengths;
    const float* cosines = nullptr;
    const float* sines = nullptr;
};

class LoraTransformer {
  public:
    // Throws Error if a size is not a multiple of the group size.
    LoraTransformer(const TuneConfig& config, int threads, const std::string& ops);
    ~LoraTransformer();

    // Set a frozen weight (outputs, inputs), in float32.
    void set_weight(int layer, int projection, const float* values, size_t count);
    void set_norms(int layer, const float* attention, const float* ffn, size_t count);

    // Number of parameters of all adapters: for each layer and projection with an adapter A (rank, inputs), then B
    // (outputs, rank).
    size_t num_parameters() const { return num_parameters_; }
    const TuneConfig& config() const { return config_; }
    int tokens() const { return tokens_; }  // of the last forward pass

    // out (tokens, dim) from x (tokens, dim). With `save_for_backward`, keep what `backward` needs until the next call.
    void forward(const float* x, const TuneBatch& batch, const float* parameters, bool save_for_backward, float* out);
    // Gradients of all parameters, given the gradient `grad_out` (tokens, dim) of the last saved forward's output. Can
    // be called once for each forward.
    void backward(const float* grad_out, float* grad_parameters);

    struct Scratch;

  private:
    friend class LayerPass;

    struct FrozenLayer {
        std::array<Matrix, kNumProjections> weights, transposed;
        std::vector<float> attention_norm, ffn_norm;
    };
    // A and B of one adapter in the forms that products read; the rank is padded with zeros.
    struct LoraFactors {
        std::vector<float> a, a_transposed;  // (R, inputs), (inputs, R)
        std::vector<float> b, b_transposed;  // scale * (outputs, R), scale * (R, outputs)
        size_t offset;                       // of A in the parameters; B follows
    };
    // Attention of one document (or of the prefix) and key/value head.
    struct DocumentHead {
        int start, length, prefix, kv_head;
        int64_t cumulative_cost;  // of this item and those before it
    };
    // Activations of each layer that the backward pass needs, (tokens, width).
    struct SavedActivations {
        std::vector<Memory> x, after_attention, q, k, v, attention, log_sums, gate, up;
        std::vector<std::array<Memory, kNumProjections>> lora_hidden;  // A x
    };

    void plan(const TuneBatch& batch);
    void reserve_scratch();
    void reserve(int tokens, int layers);
    void load_parameters(int layer, const float* parameters);
    void store_gradients(int layer, float* grad_parameters) const;

    TuneConfig config_;
    const Ops& ops_;
    const TuneOps& tune_ops_;
    ThreadPool pool_;
    std::vector<FrozenLayer> layers_;
    std::vector<std::array<LoraFactors, kNumProjections>> lora_;
    size_t num_parameters_ = 0;

    int tokens_ = 0;
    int prefix_ = 0;
    int max_keys_ = 0;  // that a document sees
    bool has_saved_ = false;
    std::vector<DocumentHead> document_heads_;
    std::vector<float> cosines_, sines_;
    int reserved_tokens_ = 0, reserved_layers_ = 0;
    SavedActivations saved_;
    Memory grad_x_, grad_q_, grad_k_, grad_v_, grad_attention_;
    // Gradients of A and B, by thread, layer and projection.
    std::vector<std::vector<std::array<std::array<std::vector<float>, 2>, kNumProjections>>> gradients_;
    std::vector<std::unique_ptr<Scratch>> scratch_;
};

}  // namespace empu
