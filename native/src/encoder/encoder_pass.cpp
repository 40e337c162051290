// BERT with the same steps as embed/numpy_encoder.py: each layer normalises after its residual sums.
#include "encoder/encoder_pass.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace empu {

namespace {

Memory allocate_floats(int rows, int columns) { return Memory(size_t(rows) * size_t(columns) * sizeof(float)); }

int padded_head_dim(const EncoderConfig& config) { return round_up(config.head_dim(), kLanes); }

// Tiles [begin, end) as a matrix of its own.
PackedMatrix tiles_of(const Matrix& matrix, int begin, int end) {
    PackedMatrix part = matrix;
    part.data = matrix.tile(begin);
    part.tiles = end - begin;
    part.rows = part.tiles * kLanes;
    return part;
}

}  // namespace

EncoderScratch::EncoderScratch(const EncoderConfig& config, int tokens, int unit_columns)
    : query(allocate_floats(tokens, unit_columns)),
      key(allocate_floats(tokens, unit_columns)),
      value(allocate_floats(tokens, unit_columns)),
      attention(allocate_floats(tokens, unit_columns)),
      hidden(allocate_floats(tokens, kGroupSize)),
      query_bf16(size_t(tokens) * size_t(config.head_dim()) * sizeof(uint16_t)),
      block_keys(size_t(kBlockKeys) * size_t(config.head_dim()) * sizeof(uint16_t)),
      block_values(size_t(kBlockKeys) * size_t(padded_head_dim(config)) * sizeof(uint16_t)),
      partial_values(allocate_floats(tokens, padded_head_dim(config))),
      max_scores(size_t(tokens)),
      weight_sums(size_t(tokens)),
      low(size_t(tokens)),
      high(size_t(tokens)) {}

EncoderWorkspace::EncoderWorkspace(const EncoderConfig& config, int tokens, int unit_columns, int threads)
    : x(allocate_floats(tokens, config.dim)),
      input(tokens, config.dim),
      attention(tokens, config.dim),
      hidden(tokens, config.ffn_dim) {
    for (int thread = 0; thread < threads; ++thread) scratch.emplace_back(config, tokens, unit_columns);
}

AttentionUnit attention_unit(const EncoderConfig& config) {
    const int heads = config.head_dim() % kGroupSize == 0 ? 1 : config.heads;
    return {heads, heads * config.head_dim()};
}

EncoderPass::EncoderPass(Encoder& encoder, EncoderWorkspace& workspace, const EncoderChunk& chunk,
                         const EncoderTeam& team)
    : encoder_(encoder),
      config_(encoder.config()),
      ops_(encoder.ops()),
      workspace_(workspace),
      scratch_(workspace.scratch[size_t(team.thread)]),
      chunk_(chunk),
      team_(team),
      unit_(attention_unit(encoder.config())),
      input_(workspace.input.view(config_.dim)),
      attention_(workspace.attention.view(config_.dim)),
      hidden_(workspace.hidden.view(config_.ffn_dim)) {}

void EncoderPass::run() {
    embed_tokens();
    for (const EncoderLayer& layer : encoder_.layers_) {
        attention(layer);
        feed_forward(layer);
    }
    pool_texts();
}

float* EncoderPass::x(int token) const { return workspace_.x.as<float>() + size_t(token) * size_t(config_.dim); }

// x = norm(word + position), also quantised.
void EncoderPass::embed_tokens() {
    const Range range = thread_range(chunk_.tokens);
    int token = 0;
    for (const int32_t length : chunk_.lengths) {
        for (int position = 0; position < length; ++position, ++token) {
            if (token < range.begin || token >= range.end) continue;
            const size_t row = size_t(chunk_.ids[token]);
            encoder_.unpack_words_(encoder_.words_ + row * encoder_.word_row_bytes_, config_.dim, x(token));
            ops_.layer_norm(x(token), encoder_.positions_.data() + size_t(position) * size_t(config_.dim),
                            encoder_.embedding_norm_.data(), encoder_.embedding_norm_bias_.data(), config_.dim,
                            config_.norm_eps);
            ops_.quantise(x(token), input_, token, 0, input_.groups());
        }
    }
    barrier();
}

// x = norm(x + output(attend(query, key, value))), also quantised.
void EncoderPass::attention(const EncoderLayer& layer) {
    const Range units = thread_range(config_.heads / unit_.heads);
    const int groups = unit_.columns / kGroupSize;
    for (int unit = units.begin; unit < units.end; ++unit) {
        project_unit(layer, unit);
        int first = 0;
        for (const int32_t length : chunk_.lengths) {
            for (int head = 0; head < unit_.heads; ++head) attend_text(first, length, head * config_.head_dim());
            first += length;
        }
        for (int token = 0; token < chunk_.tokens; ++token) {
            ops_.quantise(scratch_.attention.as<float>() + size_t(token) * size_t(unit_.columns), attention_, token,
                          unit * groups, (unit + 1) * groups);
        }
    }
    barrier();
    add_product(layer.output, attention_);
    norm(layer.output_bias, layer.attention_norm, layer.attention_norm_bias);
}

// Queries, scaled for scores to base 2, keys and values of a unit's heads.
void EncoderPass::project_unit(const EncoderLayer& layer, int unit) {
    const int columns = unit_.columns, tiles = columns / kLanes;
    const auto project = [&](const Matrix& matrix, Memory& out) {
        const PackedMatrix part = tiles_of(matrix, unit * tiles, (unit + 1) * tiles);
        ops_.matmul({&part, 0, tiles}, input_, chunk_.tokens, out.as<float>(), size_t(columns), Store::Set);
    };
    project(layer.query, scratch_.query);
    project(layer.key, scratch_.key);
    project(layer.value, scratch_.value);
    const float factor = float(1.4426950408889634 / std::sqrt(double(config_.head_dim())));
    const float* query_bias = layer.query_bias.data() + size_t(unit) * size_t(columns);
    const float* value_bias = layer.value_bias.data() + size_t(unit) * size_t(columns);
    float *query = scratch_.query.as<float>(), *value = scratch_.value.as<float>();
    for (int token = 0; token < chunk_.tokens; ++token, query += columns, value += columns) {
        for (int i = 0; i < columns; ++i) query[i] = (query[i] + query_bias[i]) * factor;
        for (int i = 0; i < columns; ++i) value[i] += value_bias[i];
    }
}

// One head of one text, whose columns of the unit begin at `column`.
void EncoderPass::attend_text(int first, int length, int column) {
    const int head_dim = config_.head_dim();
    const size_t stride = size_t(unit_.columns);
    uint16_t* query = scratch_.query_bf16.as<uint16_t>();
    for (int i = 0; i < length; ++i) {
        ops_.to_bfloat16(scratch_.query.as<float>() + size_t(first + i) * stride + column, head_dim,
                         query + size_t(i) * size_t(head_dim));
    }
    const CacheBlockBf16 block = {scratch_.block_keys.as<uint16_t>(), scratch_.block_values.as<uint16_t>()};
    const PartialAttention sums = {scratch_.max_scores.data(), scratch_.weight_sums.data(),
                                   scratch_.partial_values.as<float>()};
    for (int begin = 0; begin < length; begin += kBlockKeys) {
        const int keys = std::min(kBlockKeys, length - begin);
        store_block(first + begin, keys, column);
        std::fill_n(scratch_.high.begin(), length, keys);
        ops_.attend(query, head_dim, length, block, head_dim, scratch_.low.data(), scratch_.high.data(), sums,
                    begin == 0 ? Store::Set : Store::Add);
    }
    for (int i = 0; i < length; ++i) {
        const PartialAttention sum = {sums.max_score + i, sums.weight_sum + i,
                                      sums.values + size_t(i) * size_t(padded_head_dim(config_))};
        ops_.normalise(sum, head_dim, scratch_.attention.as<float>() + size_t(first + i) * stride + column);
    }
}

// Keys and values of `count` tokens from `first` on, rounded to bfloat16, in the layout of a cache block.
void EncoderPass::store_block(int first, int count, int column) {
    const int head_dim = config_.head_dim(), width = padded_head_dim(config_);
    const size_t stride = size_t(unit_.columns);
    uint16_t *keys = scratch_.block_keys.as<uint16_t>(), *values = scratch_.block_values.as<uint16_t>();
    for (int i = 0; i < count; ++i) {
        const size_t offset = size_t(first + i) * stride + size_t(column);
        uint16_t key[kMaxHeadDim], value[kMaxHeadDim];
        ops_.to_bfloat16(scratch_.key.as<float>() + offset, head_dim, key);
        ops_.to_bfloat16(scratch_.value.as<float>() + offset, head_dim, value);
        for (int d = 0; d < head_dim; d += 2) std::memcpy(keys + d * kBlockKeys + 2 * i, key + d, 2 * sizeof(uint16_t));
        uint16_t* pair = values + size_t(i / 2) * size_t(2 * width) + i % 2;
        for (int d = 0; d < head_dim; ++d) pair[2 * d] = value[d];
    }
}

// x = norm(x + down(gelu(up(x)))), also quantised.
void EncoderPass::feed_forward(const EncoderLayer& layer) {
    constexpr int kTiles = kGroupSize / kLanes;
    const Range groups = thread_range(hidden_.groups());
    float* hidden = scratch_.hidden.as<float>();
    for (int group = groups.begin; group < groups.end; ++group) {
        const PackedMatrix part = tiles_of(layer.up, kTiles * group, kTiles * (group + 1));
        ops_.matmul({&part, 0, kTiles}, input_, chunk_.tokens, hidden, kGroupSize, Store::Set);
        for (int token = 0; token < chunk_.tokens; ++token) {
            float* row = hidden + token * kGroupSize;
            ops_.gelu(row, layer.up_bias.data() + group * kGroupSize, kGroupSize);
            ops_.quantise(row, hidden_, token, group, group + 1);
        }
    }
    barrier();
    add_product(layer.down, hidden_);
    norm(layer.down_bias, layer.output_norm, layer.output_norm_bias);
}

void EncoderPass::add_product(const Matrix& matrix, const Activations& input) {
    const Range tiles = thread_range(matrix.tiles);
    ops_.matmul({&matrix, tiles.begin, tiles.end}, input, chunk_.tokens, x(0), size_t(config_.dim), Store::Add);
    barrier();
}

// x = norm(x + bias), also quantised.
void EncoderPass::norm(const std::vector<float>& bias, const std::vector<float>& weight,
                       const std::vector<float>& shift) {
    const Range range = thread_range(chunk_.tokens);
    for (int token = range.begin; token < range.end; ++token) {
        ops_.layer_norm(x(token), bias.data(), weight.data(), shift.data(), config_.dim, config_.norm_eps);
        ops_.quantise(x(token), input_, token, 0, input_.groups());
    }
    barrier();
}

// The mean of each text's tokens, scaled to length one.
void EncoderPass::pool_texts() const {
    const Range texts = thread_range(int(chunk_.lengths.size()));
    int token = 0;
    for (int text = 0; text < texts.end; token += chunk_.lengths[size_t(text++)]) {
        if (text < texts.begin) continue;
        const int length = chunk_.lengths[size_t(text)];
        float* out = chunk_.out + size_t(text) * size_t(config_.dim);
        std::copy_n(x(token), config_.dim, out);
        for (int t = token + 1; t < token + length; ++t) {
            const float* row = x(t);
            for (int i = 0; i < config_.dim; ++i) out[i] += row[i];
        }
        double squares = 0;
        for (int i = 0; i < config_.dim; ++i) squares += double(out[i]) * double(out[i]);
        const float factor = float(1.0 / std::max(std::sqrt(squares), 1e-12));
        for (int i = 0; i < config_.dim; ++i) out[i] *= factor;
    }
}

}  // namespace empu
