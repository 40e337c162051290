// Weights, parameters and memory of the training layers.
#include "tune/lora_transformer.hpp"

#include <algorithm>

#include "error.hpp"
#include "tune/layer_pass.hpp"

namespace empu {

int TuneConfig::inputs(int projection) const {
    return projection == kO ? q_dim() : projection == kDown ? ffn_dim : dim;
}

int TuneConfig::outputs(int projection) const {
    switch (projection) {
        case kQ:
            return q_dim();
        case kK:
        case kV:
            return kv_dim();
        case kGate:
        case kUp:
            return ffn_dim;
        default:
            return dim;
    }
}

LoraTransformer::~LoraTransformer() = default;

LoraTransformer::LoraTransformer(const TuneConfig& config, int threads, const std::string& ops)
    : config_(config), ops_(choose_ops(ops)), tune_ops_(*ops_.tune), pool_(threads) {
    const int sizes[] = {config.dim, config.q_dim(), config.kv_dim(), config.ffn_dim};
    for (int size : sizes) {
        if (size < kGroupSize || size % kGroupSize != 0) {
            throw Error("A layer has " + std::to_string(size) + " rows or columns; a multiple of 32 was expected.");
        }
    }
    if (config.n_layers < 1 || config.rank < 1 || config.n_heads % config.n_kv_heads != 0 ||
        config.head_dim % kLanes != 0) {
        throw Error("Tuning needs at least one layer, a rank of at least 1, and a head size that is a multiple of 16.");
    }
    layers_.resize(size_t(config.n_layers));
    lora_.resize(size_t(config.n_layers));
    for (size_t layer = 0; layer < layers_.size(); ++layer) {
        for (int projection = 0; projection < kNumProjections; ++projection) {
            const int in = config.inputs(projection), out = config.outputs(projection), rank = config.padded_rank();
            layers_[layer].weights[size_t(projection)] = make_matrix(config.format, out, in);
            layers_[layer].transposed[size_t(projection)] = make_matrix(config.format, in, out);
            if (!config.has_adapter[size_t(projection)]) continue;
            LoraFactors& lora = lora_[layer][size_t(projection)];
            for (auto* a : {&lora.a, &lora.a_transposed}) a->assign(size_t(rank) * size_t(in), 0.0f);
            for (auto* b : {&lora.b, &lora.b_transposed}) b->assign(size_t(rank) * size_t(out), 0.0f);
            lora.offset = num_parameters_;
            num_parameters_ += size_t(config.rank) * size_t(in + out);
        }
    }
    const size_t max_cols = size_t(std::max({config.dim, config.q_dim(), config.ffn_dim}));
    gradients_.resize(size_t(pool_.threads()));
    for (int thread = 0; thread < pool_.threads(); ++thread) {
        auto& scratch = *scratch_.emplace_back(std::make_unique<Scratch>());
        scratch.normed.resize(size_t(kChunkTokens * config.dim));
        scratch.grad_normed.resize(size_t(kChunkTokens * config.dim));
        scratch.hidden.resize(size_t(kChunkTokens * config.ffn_dim));
        scratch.grad_hidden.resize(size_t(kChunkTokens * config.ffn_dim));
        scratch.grad_lora_hidden.resize(size_t(kChunkTokens * config.padded_rank()));
        scratch.quantised.resize(kChunkTokens * max_cols);
        scratch.scales.resize(kChunkTokens * max_cols / kGroupSize);
        scratch.scaled_sums.resize(kChunkTokens * max_cols / kGroupSize);
        scratch.int_sums.resize(kChunkTokens * max_cols / kGroupSize);
        scratch.tile_scales.resize(kChunkTokens / kLanes * max_cols / kGroupSize * kTileScaleFloats);
    }
}

namespace {

// Pack a frozen weight: in 4 bits if that is exact, as it is for weights from a 4-bit file; otherwise in `format`.
Matrix pack_frozen(WeightFormat format, int rows, int cols, const float* values) {
    const auto packed_as = [&](WeightFormat target) {
        Matrix matrix = make_matrix(target, rows, cols);
        pack_rows(matrix, 0, rows, "F32", reinterpret_cast<const uint8_t*>(values), 4 * size_t(rows) * size_t(cols));
        return matrix;
    };
    if (format != WeightFormat::Q8) return packed_as(format);
    Matrix q4 = packed_as(WeightFormat::Q4);
    std::vector<float> row(size_t(cols), 0.0f);
    for (int i = 0; i < rows; ++i) {
        unpack_row(q4, i, row.data());
        if (!std::equal(row.begin(), row.end(), values + size_t(i) * size_t(cols))) return packed_as(format);
    }
    return q4;
}

}  // namespace

void LoraTransformer::set_weight(int layer, int projection, const float* values, size_t count) {
    if (layer < 0 || layer >= config_.n_layers || projection < 0 || projection >= kNumProjections) {
        throw Error("There is no weight of projection " + std::to_string(projection) + " in layer " +
                    std::to_string(layer) + ".");
    }
    const size_t in = size_t(config_.inputs(projection)), out = size_t(config_.outputs(projection));
    if (count != in * out) throw Error("A weight has another size than its shape.");
    FrozenLayer& frozen = layers_[size_t(layer)];
    frozen.weights[size_t(projection)] = pack_frozen(config_.format, int(out), int(in), values);
    std::vector<float> transposed(count);
    for (size_t i = 0; i < out; ++i) {
        for (size_t j = 0; j < in; ++j) transposed[j * out + i] = values[i * in + j];
    }
    pack_rows(frozen.transposed[size_t(projection)], 0, int(in), "F32",
              reinterpret_cast<const uint8_t*>(transposed.data()), 4 * count);
}

void LoraTransformer::set_norms(int layer, const float* attention, const float* ffn, size_t count) {
    if (layer < 0 || layer >= config_.n_layers || count != size_t(config_.dim)) {
        throw Error("There are no norms of size " + std::to_string(count) + " in layer " + std::to_string(layer) + ".");
    }
    layers_[size_t(layer)].attention_norm.assign(attention, attention + count);
    layers_[size_t(layer)].ffn_norm.assign(ffn, ffn + count);
}

// Set what depends on the batch: sizes, the attention work and the rotary tables.
void LoraTransformer::plan(const TuneBatch& batch) {
    document_heads_.clear();
    prefix_ = batch.prefix;
    tokens_ = max_keys_ = batch.prefix;
    int64_t cost = 0;
    const auto add = [&](int start, int length, int prefix) {
        for (int head = 0; head < config_.n_kv_heads; ++head) {
            cost += int64_t{length} * (prefix + length) + 8 * (prefix + length);
            document_heads_.push_back({start, length, prefix, head, cost});
        }
    };
    if (prefix_ < 0) throw Error("The prefix has a negative length.");
    if (prefix_ > 0) add(0, prefix_, 0);
    for (int length : batch.lengths) {
        if (length < 1 || length > (1 << 24)) throw Error("A document must have at least one token.");
        add(tokens_, length, prefix_);
        tokens_ += length;
        max_keys_ = std::max(max_keys_, prefix_ + length);
    }
    if (tokens_ < 1) throw Error("A batch must have at least one token.");
    const size_t size = size_t(tokens_) * size_t(config_.head_dim);
    cosines_.assign(batch.cosines, batch.cosines + size);
    sines_.assign(batch.sines, batch.sines + size);
}

void LoraTransformer::reserve_scratch() {
    const size_t head_dim = size_t(config_.head_dim), keys = size_t(round_up(max_keys_, kLanes));
    const size_t queries = size_t(kQueryTokens * config_.heads_per_kv_head());
    const size_t prefix_size = size_t(prefix_) * size_t(config_.kv_dim());
    const auto grow = [](std::vector<float>& buffer, size_t size) {
        if (buffer.size() < size) buffer.resize(size);
    };
    for (auto& scratch : scratch_) {
        for (auto* buffer : {&scratch->keys, &scratch->keys_transposed, &scratch->values, &scratch->values_transposed,
                             &scratch->grad_keys, &scratch->grad_values}) {
            grow(*buffer, keys * head_dim);
        }
        for (auto* buffer : {&scratch->queries, &scratch->attention, &scratch->grad_queries}) {
            grow(*buffer, queries * head_dim);
        }
        for (auto* buffer : {&scratch->scores, &scratch->grad_scores}) grow(*buffer, queries * keys);
        for (auto* buffer : {&scratch->grad_prefix_keys, &scratch->grad_prefix_values}) grow(*buffer, prefix_size);
    }
}

void LoraTransformer::reserve(int tokens, int layers) {
    if (tokens <= reserved_tokens_ && layers <= reserved_layers_) return;
    tokens = std::max(tokens, reserved_tokens_);
    layers = std::max(layers, reserved_layers_);
    reserved_tokens_ = reserved_layers_ = 0;  // until everything is allocated
    const auto allocate = [&](int width) { return Memory(size_t(tokens) * size_t(width) * sizeof(float)); };
    const auto allocate_layers = [&](std::vector<Memory>& buffers, int width, int extra = 0) {
        buffers.clear();
        for (int i = 0; i < layers + extra; ++i) buffers.push_back(allocate(width));
    };
    saved_ = {};
    allocate_layers(saved_.x, config_.dim, 1);
    allocate_layers(saved_.after_attention, config_.dim);
    allocate_layers(saved_.q, config_.q_dim());
    allocate_layers(saved_.k, config_.kv_dim());
    allocate_layers(saved_.v, config_.kv_dim());
    allocate_layers(saved_.attention, config_.q_dim());
    allocate_layers(saved_.log_sums, config_.n_heads);
    allocate_layers(saved_.gate, config_.ffn_dim);
    allocate_layers(saved_.up, config_.ffn_dim);
    saved_.lora_hidden.resize(size_t(layers));
    for (auto& hidden : saved_.lora_hidden) {
        for (size_t projection = 0; projection < kNumProjections; ++projection) {
            if (config_.has_adapter[projection]) hidden[projection] = allocate(config_.padded_rank());
        }
    }
    grad_x_ = allocate(config_.dim);
    grad_q_ = allocate(config_.q_dim());
    grad_k_ = allocate(config_.kv_dim());
    grad_v_ = allocate(config_.kv_dim());
    grad_attention_ = allocate(config_.q_dim());
    reserved_tokens_ = tokens;
    reserved_layers_ = layers;
}

void LoraTransformer::load_parameters(int layer, const float* parameters) {
    const size_t rank = size_t(config_.rank), padded_rank = size_t(config_.padded_rank());
    for (int projection = 0; projection < kNumProjections; ++projection) {
        if (!config_.has_adapter[size_t(projection)]) continue;
        LoraFactors& lora = lora_[size_t(layer)][size_t(projection)];
        const size_t in = size_t(config_.inputs(projection)), out = size_t(config_.outputs(projection));
        const float* a = parameters + lora.offset;
        const float* b = a + rank * in;
        std::copy_n(a, rank * in, lora.a.data());
        for (size_t r = 0; r < rank; ++r) {
            for (size_t i = 0; i < in; ++i) lora.a_transposed[i * padded_rank + r] = a[r * in + i];
        }
        for (size_t o = 0; o < out; ++o) {
            for (size_t r = 0; r < rank; ++r) {
                const float value = config_.lora_scale * b[o * rank + r];
                lora.b[o * padded_rank + r] = value;
                lora.b_transposed[r * out + o] = value;
            }
        }
    }
}

// Add the gradients of all threads, in their order.
void LoraTransformer::store_gradients(int layer, float* grad_parameters) const {
    const size_t rank = size_t(config_.rank), padded_rank = size_t(config_.padded_rank());
    for (int projection = 0; projection < kNumProjections; ++projection) {
        if (!config_.has_adapter[size_t(projection)]) continue;
        const size_t in = size_t(config_.inputs(projection)), out = size_t(config_.outputs(projection));
        float* grad_a = grad_parameters + lora_[size_t(layer)][size_t(projection)].offset;
        float* grad_b = grad_a + rank * in;
        std::fill_n(grad_a, rank * (in + out), 0.0f);
        for (const auto& thread : gradients_) {
            const auto& [thread_grad_a, thread_grad_b] = thread[size_t(layer)][size_t(projection)];
            for (size_t i = 0; i < rank * in; ++i) grad_a[i] += thread_grad_a[i];
            for (size_t o = 0; o < out; ++o) {
                for (size_t r = 0; r < rank; ++r) {
                    grad_b[o * rank + r] += config_.lora_scale * thread_grad_b[o * padded_rank + r];
                }
            }
        }
    }
}

void LoraTransformer::forward(const float* x, const TuneBatch& batch, const float* parameters, bool save_for_backward,
                              float* out) {
    has_saved_ = false;
    plan(batch);
    reserve_scratch();
    reserve(tokens_, save_for_backward ? config_.n_layers : 1);
    pool_.run(pool_.threads(),
              [&](int thread) { LayerPass(*this, thread, save_for_backward).forward(x, parameters, out); });
    has_saved_ = save_for_backward;
}

void LoraTransformer::backward(const float* grad_out, float* grad_parameters) {
    if (!has_saved_) throw Error("No forward pass was saved for backward.");
    has_saved_ = false;
    pool_.run(pool_.threads(), [&](int thread) { LayerPass(*this, thread, true).backward(grad_out, grad_parameters); });
}

}  // namespace empu
