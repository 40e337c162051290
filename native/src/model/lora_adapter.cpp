#include "model/lora_adapter.hpp"

#include <algorithm>

namespace empu {

namespace {

const Matrix& matrix_of(const Layer& layer, Part part) {
    const Matrix* const all[kParts] = {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down};
    return *all[part];
}

constexpr const char* kNames[kParts] = {"attention.q.weight",       "attention.k.weight",     "attention.v.weight",
                                        "attention.o.weight",       "feed_forward.gate.weight", "feed_forward.up.weight",
                                        "feed_forward.down.weight"};

Matrix packed(Kind kind, int rows, int cols, const float* values) {
    Matrix matrix = make_matrix(kind, rows, cols);
    pack_rows(matrix, 0, rows, "F32", reinterpret_cast<const uint8_t*>(values),
              size_t(rows) * size_t(cols) * sizeof(float));
    return matrix;
}

}  // namespace

Adapter::Adapter(std::shared_ptr<const Model> model) : model_(std::move(model)), layers_(model_->layers.size()) {}

void Adapter::add(const std::string& name, int rank, const float* a, size_t a_count, const float* b, size_t b_count) {
    if (rank < 1 || rank > kMaxRank) {
        throw Error("The adapter has rank " + std::to_string(rank) + "; at most " + std::to_string(kMaxRank) +
                    " is possible.");
    }
    for (size_t layer = 0; layer < layers_.size(); ++layer) {
        const std::string prefix = "layers." + std::to_string(layer) + ".";
        for (int part = 0; part < kParts; ++part) {
            if (name != prefix + kNames[part]) continue;
            const Matrix& base = matrix_of(model_->layers[layer], Part(part));
            if (a_count != size_t(rank) * size_t(base.cols) || b_count != size_t(base.rows) * size_t(rank)) {
                throw Error("The adapter of " + name + " does not fit its matrix.");
            }
            const Kind kind = base.kind == Kind::Float32 ? Kind::Float32 : Kind::Q8;
            const int inner = kind == Kind::Float32 ? rank : round_up(rank, kGroup);
            std::vector<float> wide(size_t(base.rows) * size_t(inner));
            for (int row = 0; row < base.rows; ++row) {
                std::copy_n(b + size_t(row) * size_t(rank), rank, wide.data() + size_t(row) * size_t(inner));
            }
            layers_[layer][size_t(part)] = {packed(kind, rank, base.cols, a),
                                            packed(kind, base.rows, inner, wide.data())};
            return;
        }
    }
    throw Error("The model has no matrix called " + name + " that an adapter could change.");
}

size_t Adapter::bytes() const {
    size_t total = 0;
    for (const auto& layer : layers_) {
        for (const LowRank& low : layer) total += low.a.memory.size() + low.b.memory.size();
    }
    return total;
}

}  // namespace empu
