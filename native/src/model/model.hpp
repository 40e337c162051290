// Weights of a Llama-family model. Tensor names are those of the Python side.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "model/matrix.hpp"

namespace empu {

// Same fields as ModelConfig in Python.
struct ModelConfig {
    int n_layers, dim, n_heads, n_kv_heads, head_dim, ffn_dim, vocab_size;
    float norm_eps;
    int sliding_window;   // positions that a query sees, itself included; 0 for all
    bool tie_embeddings;  // the embedding is also the output layer

    int q_dim() const { return n_heads * head_dim; }
    int kv_dim() const { return n_kv_heads * head_dim; }
    int heads_per_kv_head() const { return n_heads / n_kv_heads; }
    int first_visible(int position) const {
        return sliding_window > 0 ? std::max(0, position - sliding_window + 1) : 0;
    }
    void check() const;  // throws Error
};

// The matrices of a layer, in the order of their use.
enum Projection { kQ, kK, kV, kO, kGate, kUp, kDown, kNumProjections };

struct LayerWeights {
    std::vector<float> attention_norm, ffn_norm;  // padded to a multiple of 16 with zeros
    Matrix q, k, v, o, gate, up, down;
};

class Model {
  public:
    explicit Model(const ModelConfig& config);
    Model(const Model&) = delete;
    Model& operator=(const Model&) = delete;

    // Allocate a matrix, to be filled by `pack`. This and the functions below throw Error for an unknown name or a
    // shape other than the config's.
    void allocate(const std::string& name, WeightFormat format, int rows, int cols);
    // Use a matrix that is already packed in a mapped file, at `offset`.
    void map(const std::string& name, WeightFormat format, int rows, int cols, const Memory& file, size_t offset);
    void pack(const std::string& name, int first, int count, std::string_view type, const uint8_t* data, size_t bytes);
    void set_norm(const std::string& name, const float* values, int count);
    // Throws Error naming a weight that is missing.
    void check_complete() const;

    const Matrix& output_matrix() const { return config.tie_embeddings ? embedding : output; }
    const Matrix& matrix(const std::string& name) const;
    size_t weight_bytes() const;
    size_t mapped_bytes() const;  // those of them that are in mapped files
    // Bytes that one decode step reads: all but an untied embedding, of which it reads single rows.
    size_t decode_bytes() const { return weight_bytes() - (config.tie_embeddings ? 0 : embedding.memory.size()); }

    const ModelConfig config;
    Matrix embedding, output;
    std::vector<float> norm;
    std::vector<LayerWeights> layers;

  private:
    struct Expected {
        Matrix* matrix;
        int rows, cols;
    };
    const Expected& expected(const std::string& name) const;
    const Expected& expected(const std::string& name, int rows, int cols) const;

    Arena arena_;
    std::map<std::string, Expected> matrices_;
    std::map<std::string, std::vector<float>*> norms_;
};

}  // namespace empu
