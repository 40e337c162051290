// LoRA adapter beside a model: adds B A x to the product of a matrix W with x. The scale is already in B.
#pragma once

#include <array>
#include <memory>

#include "model/model.hpp"

namespace empu {

inline constexpr int kMaxRank = 256;

// Both in Q8 where the model's own matrix is quantised, so that they take the same activations; else in Float32.
struct LoraMatrices {
    Matrix a;  // (rank, cols)
    Matrix b;  // (rows, rank padded to whole groups)
    bool is_present() const { return a.rows > 0; }
};

class LoraAdapter {
  public:
    explicit LoraAdapter(std::shared_ptr<const Model> model);
    LoraAdapter(const LoraAdapter&) = delete;
    LoraAdapter& operator=(const LoraAdapter&) = delete;

    // `a` is (rank, cols) and `b` (rows, rank), row-major. Throws Error if `name` is not a layer's matrix, the rank is
    // above kMaxRank, or the sizes do not match the matrix.
    void add(const std::string& name, int rank, const float* a, size_t a_count, const float* b, size_t b_count);

    const LoraMatrices& at(int layer, Projection projection) const { return layers_[size_t(layer)][projection]; }
    const Model* model() const { return model_.get(); }
    size_t bytes() const;

  private:
    std::shared_ptr<const Model> model_;
    std::vector<std::array<LoraMatrices, kNumProjections>> layers_;
};

}  // namespace empu
