#include "model/lora_adapter.hpp"

#include <algorithm>
#include <string>

#include "error.hpp"

namespace empu {

namespace {

const Matrix& matrix_of(const LayerWeights& layer, Projection projection) {
    const Matrix* const all[kNumProjections] = {&layer.q,    &layer.k,  &layer.v,   &layer.o,
                                                &layer.gate, &layer.up, &layer.down};
    return *all[projection];
}

constexpr const char* kTensorNames[kNumProjections] = {
    "attention.q.weight",       "attention.k.weight",     "attention.v.weight",      "attention.o.weight",
    "feed_forward.gate.weight", "feed_forward.up.weight", "feed_forward.down.weight"};

Matrix pack_floats(WeightFormat format, int rows, int cols, const float* values) {
    Matrix matrix = make_matrix(format, rows, cols);
    pack_rows(matrix, 0, rows, "F32", reinterpret_cast<const uint8_t*>(values),
              size_t(rows) * size_t(cols) * sizeof(float));
    return matrix;
}

}  // namespace

LoraAdapter::LoraAdapter(std::shared_ptr<const Model> model)
    : model_(std::move(model)), layers_(model_->layers.size()) {}

void LoraAdapter::add(const std::string& name, int rank, const float* a, size_t a_count, const float* b,
                      size_t b_count) {
    if (rank < 1 || rank > kMaxRank) {
        throw Error("The adapter has rank " + std::to_string(rank) + "; expected at least 1 and at most " +
                    std::to_string(kMaxRank) + ".");
    }
    for (size_t layer = 0; layer < layers_.size(); ++layer) {
        const std::string prefix = "layers." + std::to_string(layer) + ".";
        for (int projection = 0; projection < kNumProjections; ++projection) {
            if (name != prefix + kTensorNames[projection]) continue;
            const Matrix& base = matrix_of(model_->layers[layer], Projection(projection));
            if (a_count != size_t(rank) * size_t(base.cols) || b_count != size_t(base.rows) * size_t(rank)) {
                throw Error("The adapter of " + name + " does not fit the shape of its matrix.");
            }
            const WeightFormat format = base.format == WeightFormat::Float32 ? WeightFormat::Float32 : WeightFormat::Q8;
            const int padded_rank = format == WeightFormat::Float32 ? rank : round_up(rank, kGroupSize);
            std::vector<float> padded_b(size_t(base.rows) * size_t(padded_rank));
            for (int row = 0; row < base.rows; ++row) {
                std::copy_n(b + size_t(row) * size_t(rank), rank, padded_b.data() + size_t(row) * size_t(padded_rank));
            }
            layers_[layer][size_t(projection)] = {pack_floats(format, rank, base.cols, a),
                                                  pack_floats(format, base.rows, padded_rank, padded_b.data())};
            return;
        }
    }
    throw Error("The model has no matrix called " + name + " that an adapter can change.");
}

size_t LoraAdapter::bytes() const {
    size_t total = 0;
    for (const auto& layer : layers_) {
        for (const LoraMatrices& lora : layer) total += lora.a.memory.size() + lora.b.memory.size();
    }
    return total;
}

}  // namespace empu
