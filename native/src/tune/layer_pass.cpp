// Linear layers and norms, forward and backward, in the order of model/transformer.py.
#include "tune/layer_pass.hpp"

namespace empu {

void LayerPass::forward(const float* x, const float* parameters, float* out) {
    const Range layers = thread_range(config_.n_layers, thread_, threads_);
    for (int layer = layers.begin; layer < layers.end; ++layer) transformer_.load_parameters(layer, parameters);
    transformer_.pool_.barrier();
    copy_tokens(x, stream(0), config_.dim);
    for (layer_ = 0; layer_ < config_.n_layers; ++layer_) {
        for_each_chunk([&](int first, int count) { project_qkv(first, count); });
        transformer_.pool_.barrier();
        for_each_document_head([&](const DocumentHead& item) { attend(item); });
        transformer_.pool_.barrier();
        for_each_chunk([&](int first, int count) { feed_forward(first, count); });
    }
    copy_tokens(stream(config_.n_layers), out, config_.dim);
}

void LayerPass::backward(const float* grad_out, float* grad_parameters) {
    auto& gradients = transformer_.gradients_[size_t(thread_)];
    gradients.resize(size_t(config_.n_layers));
    for (auto& layer : gradients) {
        for (int projection = 0; projection < kNumProjections; ++projection) {
            if (!config_.has_adapter[size_t(projection)]) continue;
            const size_t rank = size_t(config_.padded_rank());
            layer[size_t(projection)][0].assign(rank * size_t(config_.inputs(projection)), 0.0f);
            layer[size_t(projection)][1].assign(rank * size_t(config_.outputs(projection)), 0.0f);
        }
    }
    copy_tokens(grad_out, transformer_.grad_x_.as<float>(), config_.dim);
    for (layer_ = config_.n_layers - 1; layer_ >= 0; --layer_) {
        for_each_chunk([&](int first, int count) { feed_forward_backward(first, count); });
        transformer_.pool_.barrier();
        const size_t prefix_size = size_t(transformer_.prefix_ * config_.kv_dim());
        std::fill_n(scratch_.grad_prefix_keys.data(), prefix_size, 0.0f);
        std::fill_n(scratch_.grad_prefix_values.data(), prefix_size, 0.0f);
        for_each_document_head([&](const DocumentHead& item) { attend_backward(item); });
        transformer_.pool_.barrier();
        for_each_chunk([&](int first, int count) { project_qkv_backward(first, count); });
    }
    transformer_.pool_.barrier();
    const Range layers = thread_range(config_.n_layers, thread_, threads_);
    for (int layer = layers.begin; layer < layers.end; ++layer) transformer_.store_gradients(layer, grad_parameters);
}

void LayerPass::project_qkv(int first, int count) const {
    auto& saved = transformer_.saved_;
    float* q = row(saved.q, first, config_.q_dim());
    float* k = row(saved.k, first, config_.kv_dim());
    float* normed = rms_norm(stream(layer_, first), layer().attention_norm, count);
    const Activations input = quantise(normed, config_.dim, count);
    project(kQ, input, first, count, q, Store::Set);
    project(kK, input, first, count, k, Store::Set);
    project(kV, input, first, count, row(saved.v, first, config_.kv_dim()), Store::Set);
    rotate(q, first, count, config_.n_heads, false);
    rotate(k, first, count, config_.n_kv_heads, false);
}

void LayerPass::feed_forward(int first, int count) const {
    auto& saved = transformer_.saved_;
    const size_t size = size_t(count) * size_t(config_.dim);
    float* after_attention = row(saved.after_attention, first, config_.dim);
    float* out = stream(layer_ + 1, first);
    float* gate = row(saved.gate, first, config_.ffn_dim);
    float* up = row(saved.up, first, config_.ffn_dim);
    std::copy_n(stream(layer_, first), size, after_attention);
    project(kO, quantise(row(saved.attention, first, config_.q_dim()), config_.q_dim(), count), first, count,
            after_attention, Store::Add);
    const Activations input = quantise(rms_norm(after_attention, layer().ffn_norm, count), config_.dim, count);
    project(kGate, input, first, count, gate, Store::Set);
    project(kUp, input, first, count, up, Store::Set);
    tune_ops_.swiglu(gate, up, count * config_.ffn_dim, scratch_.hidden.data());
    std::copy_n(after_attention, size, out);
    project(kDown, quantise(scratch_.hidden.data(), config_.ffn_dim, count), first, count, out, Store::Add);
}

void LayerPass::feed_forward_backward(int first, int count) const {
    auto& saved = transformer_.saved_;
    float* grad_x = transformer_.grad_x_.as<float>() + size_t(first) * size_t(config_.dim);
    float* gate = row(saved.gate, first, config_.ffn_dim);
    float* up = row(saved.up, first, config_.ffn_dim);
    float* grad_normed = scratch_.grad_normed.data();
    const float* after_attention = row(saved.after_attention, first, config_.dim);
    tune_ops_.swiglu(gate, up, count * config_.ffn_dim, scratch_.hidden.data());
    project_backward(kDown, quantise(grad_x, config_.dim, count), scratch_.hidden.data(), first, count,
                     scratch_.grad_hidden.data(), Store::Set);
    tune_ops_.swiglu_backward(gate, up, count * config_.ffn_dim, scratch_.grad_hidden.data());
    const float* normed = rms_norm(after_attention, layer().ffn_norm, count);
    project_backward(kGate, quantise(gate, config_.ffn_dim, count), normed, first, count, grad_normed, Store::Set);
    project_backward(kUp, quantise(up, config_.ffn_dim, count), normed, first, count, grad_normed, Store::Add);
    rms_norm_backward(after_attention, layer().ffn_norm, count, grad_x);
    project_backward(kO, quantise(grad_x, config_.dim, count), row(saved.attention, first, config_.q_dim()), first,
                     count, transformer_.grad_attention_.as<float>() + size_t(first) * size_t(config_.q_dim()),
                     Store::Set);
}

void LayerPass::project_qkv_backward(int first, int count) const {
    const size_t kv_dim = size_t(config_.kv_dim());
    float* grad_q = transformer_.grad_q_.as<float>() + size_t(first) * size_t(config_.q_dim());
    float* grad_k = transformer_.grad_k_.as<float>() + size_t(first) * kv_dim;
    float* grad_v = transformer_.grad_v_.as<float>() + size_t(first) * kv_dim;
    for (int t = first; t < std::min(first + count, transformer_.prefix_); ++t) {
        for (const auto& scratch : transformer_.scratch_) {
            for (size_t i = 0; i < kv_dim; ++i) {
                grad_k[size_t(t - first) * kv_dim + i] += scratch->grad_prefix_keys[size_t(t) * kv_dim + i];
                grad_v[size_t(t - first) * kv_dim + i] += scratch->grad_prefix_values[size_t(t) * kv_dim + i];
            }
        }
    }
    rotate(grad_q, first, count, config_.n_heads, true);
    rotate(grad_k, first, count, config_.n_kv_heads, true);
    const float* x = stream(layer_, first);
    const float* normed = rms_norm(x, layer().attention_norm, count);
    float* grad_normed =
        layer_ > 0 ? scratch_.grad_normed.data() : nullptr;  // nothing before the first layer is trained
    project_backward(kQ, quantise(grad_q, config_.q_dim(), count), normed, first, count, grad_normed, Store::Set);
    project_backward(kK, quantise(grad_k, config_.kv_dim(), count), normed, first, count, grad_normed, Store::Add);
    project_backward(kV, quantise(grad_v, config_.kv_dim(), count), normed, first, count, grad_normed, Store::Add);
    if (!grad_normed) return;
    rms_norm_backward(x, layer().attention_norm, count,
                      transformer_.grad_x_.as<float>() + size_t(first) * size_t(config_.dim));
}

Activations LayerPass::quantise(float* floats, int cols, int count) const {
    const Activations activations = scratch_.activations(cols, floats);
    if (config_.format == WeightFormat::Float32) return activations;
    for (int t = 0; t < count; ++t) {
        ops_.quantise(floats + size_t(t) * size_t(cols), activations, t, 0, activations.groups());
    }
    return activations;
}

float* LayerPass::rms_norm(const float* x, const std::vector<float>& weight, int count) const {
    for (int t = 0; t < count; ++t) {
        const size_t offset = size_t(t) * size_t(config_.dim);
        ops_.rms_norm(x + offset, weight.data(), config_.dim, config_.norm_eps, scratch_.normed.data() + offset);
    }
    return scratch_.normed.data();
}

// Add to `grad_x` the gradient at x, given the gradient of the output in `scratch_.grad_normed`.
void LayerPass::rms_norm_backward(const float* x, const std::vector<float>& weight, int count, float* grad_x) const {
    for (int t = 0; t < count; ++t) {
        const size_t offset = size_t(t) * size_t(config_.dim);
        tune_ops_.rms_norm_backward(x + offset, weight.data(), config_.dim, config_.norm_eps,
                                    scratch_.grad_normed.data() + offset, grad_x + offset);
    }
}

// Set out to, or add to it, W x + scale B A x.
void LayerPass::project(int projection, const Activations& input, int first, int count, float* out, Store store) const {
    const Matrix& matrix = layer().weights[size_t(projection)];
    const int outputs = config_.outputs(projection), rank = config_.padded_rank();
    ops_.matmul({&matrix, 0, matrix.tiles}, input, count, out, size_t(outputs), store);
    if (!config_.has_adapter[size_t(projection)]) return;
    const LoraTransformer::LoraFactors& lora = transformer_.lora_[size_t(layer_)][size_t(projection)];
    float* hidden = lora_hidden(projection, first);
    tune_ops_.matmul({count, rank, input.cols, input.floats, size_t(input.stride), 1, lora.a_transposed.data(),
                      size_t(rank), hidden, size_t(rank), false});
    tune_ops_.matmul({count, outputs, rank, hidden, size_t(rank), 1, lora.b_transposed.data(), size_t(outputs), out,
                      size_t(outputs), true});
}

// Set grad_x to, or add to it, W^T grad_out + A^T scale B^T grad_out, and add to the gradients of A and B. With a null
// grad_x, only the latter.
void LayerPass::project_backward(int projection, const Activations& grad_out, const float* x, int first, int count,
                                 float* grad_x, Store store) const {
    const Matrix& matrix = layer().transposed[size_t(projection)];
    const int inputs = config_.inputs(projection), outputs = config_.outputs(projection);
    const int rank = config_.padded_rank();
    if (grad_x) ops_.matmul({&matrix, 0, matrix.tiles}, grad_out, count, grad_x, size_t(inputs), store);
    if (!config_.has_adapter[size_t(projection)]) return;
    const LoraTransformer::LoraFactors& lora = transformer_.lora_[size_t(layer_)][size_t(projection)];
    auto& gradients = transformer_.gradients_[size_t(thread_)][size_t(layer_)][size_t(projection)];
    float* grad_hidden = scratch_.grad_lora_hidden.data();
    tune_ops_.matmul({count, rank, outputs, grad_out.floats, size_t(outputs), 1, lora.b.data(), size_t(rank),
                      grad_hidden, size_t(rank), false});
    if (grad_x) {
        tune_ops_.matmul({count, inputs, rank, grad_hidden, size_t(rank), 1, lora.a.data(), size_t(inputs), grad_x,
                          size_t(inputs), true});
    }
    tune_ops_.matmul({rank, inputs, count, grad_hidden, 1, size_t(rank), x, size_t(inputs), gradients[0].data(),
                      size_t(inputs), true});
    tune_ops_.matmul({outputs, rank, count, grad_out.floats, 1, size_t(outputs), lora_hidden(projection, first),
                      size_t(rank), gradients[1].data(), size_t(rank), true});
}

void LayerPass::rotate(float* x, int first, int count, int heads, bool inverse) const {
    for (int t = first; t < first + count; ++t) {
        const size_t offset = size_t(t) * size_t(config_.head_dim);
        for (int head = 0; head < heads; ++head, x += config_.head_dim) {
            tune_ops_.rotate(x, transformer_.cosines_.data() + offset, transformer_.sines_.data() + offset,
                             config_.head_dim, inverse);
        }
    }
}

}  // namespace empu
