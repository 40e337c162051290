#include "model/model.hpp"

namespace empu {

void Shape::check() const {
    const auto within = [](int n, int most) { return n >= 1 && n <= most; };
    const bool sane = within(layers, 1024) && within(dim, 1 << 17) && within(heads, 4096) && within(kv_heads, 4096) &&
                      within(head_dim, kMostHeadDim) && within(ffn_dim, 1 << 20) && within(vocabulary, 1 << 22) &&
                      heads % kv_heads == 0 && head_dim % 2 == 0 && norm_eps >= 0 && window >= 0;
    if (!sane) throw Error("The model's shape is out of range.");
}

Model::Model(const Shape& checked) : shape(checked) {
    shape.check();
    layers.resize(size_t(shape.layers));
    matrices_["embedding.weight"] = {&embedding, shape.vocabulary, shape.dim};
    if (!shape.tied) matrices_["output.weight"] = {&output, shape.vocabulary, shape.dim};
    norms_["norm.weight"] = &norm;
    for (int i = 0; i < shape.layers; ++i) {
        Layer& layer = layers[size_t(i)];
        const std::string prefix = "layers." + std::to_string(i) + ".";
        norms_[prefix + "attention_norm.weight"] = &layer.attention_norm;
        norms_[prefix + "ffn_norm.weight"] = &layer.ffn_norm;
        matrices_[prefix + "attention.q.weight"] = {&layer.q, shape.q_dim(), shape.dim};
        matrices_[prefix + "attention.k.weight"] = {&layer.k, shape.kv_dim(), shape.dim};
        matrices_[prefix + "attention.v.weight"] = {&layer.v, shape.kv_dim(), shape.dim};
        matrices_[prefix + "attention.o.weight"] = {&layer.o, shape.dim, shape.q_dim()};
        matrices_[prefix + "feed_forward.gate.weight"] = {&layer.gate, shape.ffn_dim, shape.dim};
        matrices_[prefix + "feed_forward.up.weight"] = {&layer.up, shape.ffn_dim, shape.dim};
        matrices_[prefix + "feed_forward.down.weight"] = {&layer.down, shape.dim, shape.ffn_dim};
    }
}

const Model::Expected& Model::expected(const std::string& name) const {
    const auto found = matrices_.find(name);
    if (found == matrices_.end()) throw Error("The model has no matrix called " + name + ".");
    return found->second;
}

const Model::Expected& Model::expected(const std::string& name, int rows, int cols) const {
    const Expected& wanted = expected(name);
    if (rows != wanted.rows || cols != wanted.cols) {
        throw Error(name + " is " + std::to_string(rows) + " x " + std::to_string(cols) + "; expected " +
                    std::to_string(wanted.rows) + " x " + std::to_string(wanted.cols) + ".");
    }
    return wanted;
}

void Model::make(const std::string& name, Kind kind, int rows, int cols) {
    Matrix& matrix = *expected(name, rows, cols).matrix;  // first: an assignment computes its right side before its left
    matrix = make_matrix(kind, rows, cols, room_);
}

void Model::map(const std::string& name, Kind kind, int rows, int cols, const Memory& file, size_t offset) {
    Matrix& matrix = *expected(name, rows, cols).matrix;
    matrix = map_matrix(kind, rows, cols, file, offset);
}

const Matrix& Model::matrix(const std::string& name) const { return *expected(name).matrix; }

void Model::pack(const std::string& name, int first, int count, std::string_view type, const uint8_t* data,
                 size_t bytes) {
    Matrix& matrix = *expected(name).matrix;
    if (matrix.rows == 0) throw Error(name + " was filled before it was made.");
    pack_rows(matrix, first, count, type, data, bytes);
}

void Model::set_norm(const std::string& name, const float* values, int count) {
    const auto found = norms_.find(name);
    if (found == norms_.end()) throw Error("The model has no norm called " + name + ".");
    if (count != shape.dim) throw Error(name + " has " + std::to_string(count) + " elements.");
    found->second->assign(size_t(round_up(count, kLanes)), 0.0f);
    std::memcpy(found->second->data(), values, size_t(count) * sizeof(float));
}

void Model::check_complete() const {
    for (const auto& [name, wanted] : matrices_) {
        if (wanted.matrix->rows == 0) throw Error("The model was opened without " + name + ".");
    }
    for (const auto& [name, values] : norms_) {
        if (values->empty()) throw Error("The model was opened without " + name + ".");
    }
}

size_t Model::weight_bytes() const {
    size_t bytes = 0;
    for (const auto& [name, wanted] : matrices_) bytes += wanted.matrix->memory.size();
    return bytes;
}

size_t Model::mapped_bytes() const {
    size_t bytes = 0;
    for (const auto& [name, wanted] : matrices_) {
        if (!wanted.matrix->memory.is_writable()) bytes += wanted.matrix->memory.size();
    }
    return bytes;
}

}  // namespace empu
