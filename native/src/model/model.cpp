#include "model/model.hpp"

#include <cstring>

#include "error.hpp"
#include "kernels/ops.hpp"

namespace empu {

void ModelConfig::check() const {
    const auto within = [](int n, int max) { return n >= 1 && n <= max; };
    const bool is_valid = within(n_layers, 1024) && within(dim, 1 << 17) && within(n_heads, 4096) &&
                          within(n_kv_heads, 4096) && within(head_dim, kMaxHeadDim) && within(ffn_dim, 1 << 20) &&
                          within(vocab_size, 1 << 22) && n_heads % n_kv_heads == 0 && head_dim % 2 == 0 &&
                          norm_eps >= 0 && sliding_window >= 0;
    if (!is_valid) throw Error("The model's config is out of range.");
}

Model::Model(const ModelConfig& checked) : config(checked) {
    config.check();
    layers.resize(size_t(config.n_layers));
    matrices_["embedding.weight"] = {&embedding, config.vocab_size, config.dim};
    if (!config.tie_embeddings) matrices_["output.weight"] = {&output, config.vocab_size, config.dim};
    norms_["norm.weight"] = &norm;
    for (int i = 0; i < config.n_layers; ++i) {
        LayerWeights& layer = layers[size_t(i)];
        const std::string prefix = "layers." + std::to_string(i) + ".";
        norms_[prefix + "attention_norm.weight"] = &layer.attention_norm;
        norms_[prefix + "ffn_norm.weight"] = &layer.ffn_norm;
        matrices_[prefix + "attention.q.weight"] = {&layer.q, config.q_dim(), config.dim};
        matrices_[prefix + "attention.k.weight"] = {&layer.k, config.kv_dim(), config.dim};
        matrices_[prefix + "attention.v.weight"] = {&layer.v, config.kv_dim(), config.dim};
        matrices_[prefix + "attention.o.weight"] = {&layer.o, config.dim, config.q_dim()};
        matrices_[prefix + "feed_forward.gate.weight"] = {&layer.gate, config.ffn_dim, config.dim};
        matrices_[prefix + "feed_forward.up.weight"] = {&layer.up, config.ffn_dim, config.dim};
        matrices_[prefix + "feed_forward.down.weight"] = {&layer.down, config.dim, config.ffn_dim};
    }
}

const Model::Expected& Model::expected(const std::string& name) const {
    const auto found = matrices_.find(name);
    if (found == matrices_.end()) throw Error("The model has no matrix called " + name + ".");
    return found->second;
}

const Model::Expected& Model::expected(const std::string& name, int rows, int cols) const {
    const Expected& expected_matrix = expected(name);
    if (rows != expected_matrix.rows || cols != expected_matrix.cols) {
        throw Error(name + " is " + std::to_string(rows) + " x " + std::to_string(cols) + "; expected " +
                    std::to_string(expected_matrix.rows) + " x " + std::to_string(expected_matrix.cols) + ".");
    }
    return expected_matrix;
}

void Model::allocate(const std::string& name, WeightFormat format, int rows, int cols) {
    // In its own statement, so that a wrong name or shape throws before memory is allocated.
    Matrix& matrix = *expected(name, rows, cols).matrix;
    matrix = make_matrix(format, rows, cols, arena_);
}

void Model::map(const std::string& name, WeightFormat format, int rows, int cols, const Memory& file, size_t offset) {
    Matrix& matrix = *expected(name, rows, cols).matrix;
    matrix = map_matrix(format, rows, cols, file, offset);
}

const Matrix& Model::matrix(const std::string& name) const { return *expected(name).matrix; }

void Model::pack(const std::string& name, int first, int count, std::string_view type, const uint8_t* data,
                 size_t bytes) {
    Matrix& matrix = *expected(name).matrix;
    if (matrix.rows == 0) throw Error(name + " is packed before it is allocated.");
    pack_rows(matrix, first, count, type, data, bytes);
}

void Model::set_norm(const std::string& name, const float* values, int count) {
    const auto found = norms_.find(name);
    if (found == norms_.end()) throw Error("The model has no norm called " + name + ".");
    if (count != config.dim) {
        throw Error(name + " has " + std::to_string(count) + " elements; expected " + std::to_string(config.dim) + ".");
    }
    found->second->assign(size_t(round_up(count, kLanes)), 0.0f);
    std::memcpy(found->second->data(), values, size_t(count) * sizeof(float));
}

void Model::check_complete() const {
    for (const auto& [name, expected_matrix] : matrices_) {
        if (expected_matrix.matrix->rows == 0)
            throw Error("The model has no weight " + name + "; the checkpoint is incomplete.");
    }
    for (const auto& [name, values] : norms_) {
        if (values->empty()) throw Error("The model has no weight " + name + "; the checkpoint is incomplete.");
    }
}

size_t Model::weight_bytes() const {
    size_t bytes = 0;
    for (const auto& [name, expected_matrix] : matrices_) bytes += expected_matrix.matrix->memory.size();
    return bytes;
}

size_t Model::mapped_bytes() const {
    size_t bytes = 0;
    for (const auto& [name, expected_matrix] : matrices_) {
        if (!expected_matrix.matrix->memory.is_writable()) bytes += expected_matrix.matrix->memory.size();
    }
    return bytes;
}

}  // namespace empu
