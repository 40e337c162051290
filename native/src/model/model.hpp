// The weights of a Llama-family model, by the names of the Python side's table.
#pragma once

#include <map>
#include <vector>

#include "model/matrix.hpp"

namespace empu {

struct Shape {
    int layers, dim, heads, kv_heads, head_dim, ffn_dim, vocabulary;
    float norm_eps;
    int window;  // positions that a query sees, itself included; 0 for all
    bool tied;   // the embedding is the output layer too

    int q_dim() const { return heads * head_dim; }
    int kv_dim() const { return kv_heads * head_dim; }
    int group() const { return heads / kv_heads; }
    void check() const;  // throws Error
};

// The matrices of a layer, in the order of their use.
enum Part { kQ, kK, kV, kO, kGate, kUp, kDown, kParts };

struct Layer {
    std::vector<float> attention_norm, ffn_norm;  // padded to a multiple of 16 with zeros
    Matrix q, k, v, o, gate, up, down;
};

class Model {
  public:
    explicit Model(const Shape& shape);
    Model(const Model&) = delete;
    Model& operator=(const Model&) = delete;

    // Throw Error for an unknown name or another shape than the model's.
    void make(const std::string& name, Kind kind, int rows, int cols);
    // A matrix that lies packed in a file's memory, from `offset` on.
    void map(const std::string& name, Kind kind, int rows, int cols, const Memory& file, size_t offset);
    void pack(const std::string& name, int first, int count, std::string_view type, const uint8_t* data, size_t bytes);
    void set_norm(const std::string& name, const float* values, int count);
    // Throws Error naming what has not been given yet.
    void check_complete() const;

    const Matrix& output_matrix() const { return shape.tied ? embedding : output; }
    const Matrix& matrix(const std::string& name) const;
    size_t weight_bytes() const;
    size_t mapped_bytes() const;  // of them those that lie in files
    // Without an embedding that is not the output layer too: of it a step reads single rows.
    size_t read_bytes() const { return weight_bytes() - (shape.tied ? 0 : embedding.memory.size()); }

    const Shape shape;
    Matrix embedding, output;
    std::vector<float> norm;
    std::vector<Layer> layers;

  private:
    struct Expected {
        Matrix* matrix;
        int rows, cols;
    };
    const Expected& expected(const std::string& name) const;
    const Expected& expected(const std::string& name, int rows, int cols) const;

    Room room_;
    std::map<std::string, Expected> matrices_;
    std::map<std::string, std::vector<float>*> norms_;
};

}  // namespace empu
