#include "encoder/encoder.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <string>

#include "encoder/encoder_pass.hpp"
#include "encoder/workspace.hpp"
#include "error.hpp"
#include "kernels/float16.hpp"

namespace empu {

namespace {

constexpr int kMaxDim = 1 << 16, kMaxTokens = 1 << 20;
constexpr int kMinChunkTokens = 16;  // with smaller chunks, one sweep over the weights would serve too few tokens

uint16_t read_half(const uint8_t* from) {
    uint16_t half;
    std::memcpy(&half, from, sizeof half);
    return half;
}

void unpack_f32(const uint8_t* row, int values, float* out) { std::memcpy(out, row, size_t(values) * sizeof(float)); }

void unpack_f16(const uint8_t* row, int values, float* out) {
    for (int i = 0; i < values; ++i) out[i] = half_to_float(read_half(row + 2 * i));
}

void unpack_q8_0(const uint8_t* row, int values, float* out) {
    for (int group = 0; group < values / kGroupSize; ++group, row += 34, out += kGroupSize) {
        const float scale = half_to_float(read_half(row));
        for (int i = 0; i < kGroupSize; ++i) out[i] = scale * float(int8_t(row[2 + i]));
    }
}

void unpack_q4_0(const uint8_t* row, int values, float* out) {
    constexpr int kHalf = kGroupSize / 2;
    for (int group = 0; group < values / kGroupSize; ++group, row += 18, out += kGroupSize) {
        const float scale = half_to_float(read_half(row));
        for (int i = 0; i < kHalf; ++i) {
            out[i] = scale * float((row[2 + i] & 15) - 8);
            out[i + kHalf] = scale * float((row[2 + i] >> 4) - 8);
        }
    }
}

struct RowType {
    std::string_view type;
    size_t block_values, block_bytes;
    void (*unpack)(const uint8_t* row, int values, float* out);
};
constexpr RowType kRowTypes[] = {
    {"F32", 1, 4, unpack_f32}, {"F16", 1, 2, unpack_f16}, {"Q8_0", 32, 34, unpack_q8_0}, {"Q4_0", 32, 18, unpack_q4_0}};

WeightFormat format_of(std::string_view type) {
    if (type == "Q4_0") return WeightFormat::Q4Symmetric;
    if (type == "Q4_1" || type == "Q4_K") return WeightFormat::Q4;
    return WeightFormat::Q8;
}

constexpr std::pair<std::string_view, Matrix EncoderLayer::*> kMatrices[] = {
    {"query", &EncoderLayer::query},   {"key", &EncoderLayer::key}, {"value", &EncoderLayer::value},
    {"output", &EncoderLayer::output}, {"up", &EncoderLayer::up},   {"down", &EncoderLayer::down}};

constexpr std::pair<std::string_view, std::vector<float> EncoderLayer::*> kVectors[] = {
    {"query_bias", &EncoderLayer::query_bias},
    {"value_bias", &EncoderLayer::value_bias},
    {"output_bias", &EncoderLayer::output_bias},
    {"up_bias", &EncoderLayer::up_bias},
    {"down_bias", &EncoderLayer::down_bias},
    {"attention_norm", &EncoderLayer::attention_norm},
    {"attention_norm_bias", &EncoderLayer::attention_norm_bias},
    {"output_norm", &EncoderLayer::output_norm},
    {"output_norm_bias", &EncoderLayer::output_norm_bias}};

// Neighbouring texts of at most `max_tokens` tokens together, or one longer text.
std::vector<EncoderChunk> make_chunks(std::span<const int32_t> ids, std::span<const int32_t> lengths, int max_tokens,
                                      int dim, float* out) {
    std::vector<EncoderChunk> chunks;
    int used = 0;
    size_t first = 0;
    for (size_t text = 0; text < lengths.size(); ++text) {
        const int length = lengths[text];
        if (chunks.empty() || used + length > max_tokens) {
            chunks.push_back({ids.data() + first, lengths.subspan(text, 0), 0, out + text * size_t(dim)});
            used = 0;
        }
        EncoderChunk& chunk = chunks.back();
        chunk.lengths = {chunk.lengths.data(), chunk.lengths.size() + 1};
        chunk.tokens = used += length;
        first += size_t(length);
    }
    return chunks;
}

}  // namespace

void EncoderConfig::check() const {
    const int sizes[] = {layers, dim, heads, ffn_dim, vocab_size, positions};
    if (*std::min_element(std::begin(sizes), std::end(sizes)) < 1 || dim > kMaxDim || ffn_dim > kMaxDim ||
        positions > kMaxTokens || dim % heads != 0 || !(norm_eps >= 0)) {
        throw Error("The encoder's configuration has an impossible shape.");
    }
    if (dim % kGroupSize != 0 || ffn_dim % kGroupSize != 0 || head_dim() % 2 != 0 || head_dim() > kMaxHeadDim) {
        throw Error("Encoders need widths that are multiples of 32, and heads of an even width of at most " +
                    std::to_string(kMaxHeadDim) + ".");
    }
}

Encoder::Encoder(const EncoderConfig& config, int threads, std::string_view instruction_set)
    : config_((config.check(), config)), ops_(choose_ops(instruction_set)), pool_(threads) {
    layers_.resize(size_t(config.layers));
    workspaces_.resize(size_t(threads));
}

Encoder::~Encoder() = default;

size_t Encoder::weight_bytes() const {
    size_t bytes = size_t(config_.vocab_size) * word_row_bytes_ + positions_.size() * sizeof(float);
    for (const EncoderLayer& layer : layers_) {
        for (const auto& [name, member] : kMatrices) bytes += (layer.*member).bytes();
    }
    return bytes;
}

void Encoder::set_word_embeddings(std::string_view type, const uint8_t* data, size_t bytes) {
    for (const RowType& row : kRowTypes) {
        if (row.type != type) continue;
        word_row_bytes_ = size_t(config_.dim) / row.block_values * row.block_bytes;
        if (bytes != word_row_bytes_ * size_t(config_.vocab_size)) {
            throw Error("The word embeddings have the wrong size.");
        }
        words_ = data;
        unpack_words_ = row.unpack;
        return;
    }
    throw Error("Word embeddings of type " + std::string(type) + " cannot be read.");
}

void Encoder::set_position_embeddings(const float* values, size_t count) {
    if (count != size_t(config_.positions) * size_t(config_.dim)) {
        throw Error("The position embeddings have the wrong size.");
    }
    positions_.assign(values, values + count);
}

void Encoder::set_matrix(int layer, std::string_view name, std::string_view type, const uint8_t* data, size_t bytes) {
    for (const auto& [known_name, member] : kMatrices) {
        if (known_name != name || layer < 0 || layer >= config_.layers) continue;
        const int rows = name == "up" ? config_.ffn_dim : config_.dim;
        const int cols = name == "down" ? config_.ffn_dim : config_.dim;
        Matrix matrix = make_matrix(format_of(type), rows, cols);
        pack_rows(matrix, 0, rows, type, data, bytes);
        layers_[size_t(layer)].*member = std::move(matrix);
        return;
    }
    throw Error("The encoder has no matrix " + std::string(name) + " in layer " + std::to_string(layer) + ".");
}

std::vector<float>& Encoder::vector(int layer, std::string_view name) {
    if (layer == -1 && name == "embedding_norm") return embedding_norm_;
    if (layer == -1 && name == "embedding_norm_bias") return embedding_norm_bias_;
    for (const auto& [known_name, member] : kVectors) {
        if (known_name == name && layer >= 0 && layer < config_.layers) return layers_[size_t(layer)].*member;
    }
    throw Error("The encoder has no vector " + std::string(name) + " in layer " + std::to_string(layer) + ".");
}

void Encoder::set_vector(int layer, std::string_view name, const float* values, size_t count) {
    std::vector<float>& target = vector(layer, name);
    if (count != size_t(name == "up_bias" ? config_.ffn_dim : config_.dim)) {
        throw Error("The vector " + std::string(name) + " has the wrong size.");
    }
    target.assign(values, values + count);
}

void Encoder::check_complete() {
    if (is_complete_) return;
    bool complete = words_ && !positions_.empty() && !embedding_norm_.empty() && !embedding_norm_bias_.empty();
    for (const EncoderLayer& layer : layers_) {
        for (const auto& [name, member] : kMatrices) complete &= (layer.*member).data != nullptr;
        for (const auto& [name, member] : kVectors) complete &= !(layer.*member).empty();
    }
    if (!complete) throw Error("Weights of the encoder are missing.");
    is_complete_ = true;
}

void Encoder::check_texts(std::span<const int32_t> ids, std::span<const int32_t> lengths) const {
    size_t total = 0;
    for (const int32_t length : lengths) {
        if (length < 1) throw Error("A text without any token has no vector.");
        if (length > config_.positions) {
            throw Error("A text has " + std::to_string(length) + " tokens; the encoder reads at most " +
                        std::to_string(config_.positions) + ".");
        }
        total += size_t(length);
    }
    if (total != ids.size()) throw Error("The lengths of the texts do not add up to the number of token ids.");
    for (const int32_t id : ids) {
        if (id < 0 || id >= config_.vocab_size) {
            throw Error("Token id " + std::to_string(id) + " is outside the vocabulary of " +
                        std::to_string(config_.vocab_size) + ".");
        }
    }
}

EncoderWorkspace& Encoder::workspace(int index) {
    std::unique_ptr<EncoderWorkspace>& space = workspaces_[size_t(index)];
    if (!space) {
        space = std::make_unique<EncoderWorkspace>(config_, std::max(kChunkTokens, config_.positions),
                                                   attention_unit(config_).columns, index == 0 ? threads() : 1);
    }
    return *space;
}

void Encoder::embed(std::span<const int32_t> ids, std::span<const int32_t> lengths, float* out) {
    const std::lock_guard lock(mutex_);
    check_complete();
    check_texts(ids, lengths);
    if (lengths.empty()) return;
    const int threads = pool_.threads();
    const int share = int((ids.size() + size_t(threads) - 1) / size_t(threads));
    const auto chunks = make_chunks(ids, lengths, std::clamp(share, kMinChunkTokens, kChunkTokens), config_.dim, out);
    if (int(chunks.size()) < threads) {  // all threads work on one chunk after the other
        EncoderWorkspace& space = workspace(0);
        for (const EncoderChunk& chunk : chunks) {
            pool_.run(threads, [&](int thread) {
                EncoderPass(*this, space, chunk, {thread, threads, &pool_}).run();
            });
        }
        return;
    }
    for (int thread = 0; thread < threads; ++thread) workspace(thread);
    std::atomic<size_t> next{0};  // each thread takes the next chunk, and none waits for another
    pool_.run(threads, [&](int thread) {
        EncoderWorkspace& space = *workspaces_[size_t(thread)];
        for (size_t i; (i = next.fetch_add(1)) < chunks.size();) {
            EncoderPass(*this, space, chunks[i], {0, 1, nullptr}).run();
        }
    });
}

}  // namespace empu
