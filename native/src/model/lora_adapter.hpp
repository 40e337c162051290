// A low-rank adapter beside a model: to a matrix W of the model it adds B A, whose factor is already in B.
#pragma once

#include <array>
#include <memory>

#include "model/model.hpp"

namespace empu {

inline constexpr int kMaxRank = 256;

// Both of 8 bits where the model's own matrix is quantised, so that they take the same activations; else floats.
struct LowRank {
    Matrix a;  // (rank, cols)
    Matrix b;  // (rows, rank, filled up to whole groups)
    bool present() const { return a.rows > 0; }
};

class Adapter {
  public:
    explicit Adapter(std::shared_ptr<const Model> model);
    Adapter(const Adapter&) = delete;
    Adapter& operator=(const Adapter&) = delete;

    // `a` is (rank, cols) and `b` (rows, rank), row after row. Throws Error for a name that is no matrix of a layer, a
    // rank above kMaxRank, or other sizes than the matrix has.
    void add(const std::string& name, int rank, const float* a, size_t a_count, const float* b, size_t b_count);

    const LowRank& at(int layer, Part part) const { return layers_[size_t(layer)][part]; }
    const Model* model() const { return model_.get(); }
    size_t bytes() const;

  private:
    std::shared_ptr<const Model> model_;
    std::vector<std::array<LowRank, kParts>> layers_;
};

}  // namespace empu
