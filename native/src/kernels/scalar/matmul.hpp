// Scalar quantisation of activations and products with packed weights.
#pragma once

#include "kernels/scalar/math.hpp"

namespace empu {
namespace {

// Store scale and sums of a group (or half a group) from the largest magnitude of its values and the sum of its
// quantised values. `index` counts the scales of a token.
inline void store_scale(const Activations& activations, int token, int index, float max_magnitude, int32_t int_sum) {
    const size_t per_token = (size_t)activations.scales_per_token(), entry = (size_t)token * per_token + (size_t)index;
    const float scale = max_magnitude / 127.0f, scaled_sum = (float)int_sum * scale;
    activations.scales[entry] = scale;
    activations.int_sums[entry] = int_sum;
    activations.scaled_sums[entry] = scaled_sum;
    if (!activations.tile_scales) return;
    float* tile = activations.tile_scales + ((size_t)(token / kLanes) * per_token + (size_t)index) * kTileScaleFloats +
                  token % kLanes;
    tile[0] = scale;
    tile[kLanes] = scaled_sum;
}

// Quantise `count` values that share a scale.
void quantise_values(const float* x, int count, const Activations& activations, int8_t* out, int token, int index) {
    float max_magnitude = 0;
    for (int i = 0; i < count; ++i) max_magnitude = larger(magnitude(x[i]), max_magnitude);
    const float inverse = max_magnitude > 0 ? 127.0f / max_magnitude : 0.0f;
    int32_t int_sum = 0;
    for (int i = 0; i < count; ++i) {
        out[i] = round_to_int8(x[i] * inverse);
        int_sum += out[i];
    }
    store_scale(activations, token, index, max_magnitude, int_sum);
}

void quantise(const float* x, const Activations& activations, int token, int begin, int end) {
    const size_t first = (size_t)token * (size_t)activations.groups();
    for (int group = begin; group < end; ++group, x += kGroupSize) {
        int8_t* out = activations.quantised + (first + (size_t)group) * kGroupSize;
        if (activations.half_groups) {
            constexpr int kHalf = kGroupSize / 2;
            quantise_values(x, kHalf, activations, out, token, 2 * group);
            quantise_values(x + kHalf, kHalf, activations, out + kHalf, token, 2 * group + 1);
        } else {
            quantise_values(x, kGroupSize, activations, out, token, group);
        }
    }
}

void matmul_tile_float32(const uint8_t* tile, const Activations& activations, int token, float* acc) {
    const float* weights = (const float*)tile;
    const float* x = activations.floats + (size_t)token * (size_t)activations.stride;
    for (int column = 0; column < activations.cols; ++column, weights += kLanes) {
        for (int l = 0; l < kLanes; ++l) acc[l] = __builtin_fmaf(weights[l], x[column], acc[l]);
    }
}

// Add to each row's sum the products of a group's weights (or of half of them) with the group's activations.
void add_dots_q4(const uint8_t* weights, const int8_t* a, GroupPart part, int32_t* dot) {
    const int low_mask = part == GroupPart::SecondHalf ? 0 : 15, high_mask = part == GroupPart::FirstHalf ? 0 : 15;
    for (int line = 0; line < 4; ++line) {
        for (int l = 0; l < kLanes; ++l) {
            for (int i = 0; i < 4; ++i) {
                const int byte = weights[line * 64 + l * 4 + i];
                dot[l] += (byte & low_mask) * a[line * 4 + i] + (byte >> 4 & high_mask) * a[16 + line * 4 + i];
            }
        }
    }
}

void add_dots_q8(const uint8_t* weights, const int8_t* a, GroupPart part, int32_t* dot) {
    for (int line = part == GroupPart::SecondHalf ? 4 : 0; line < (part == GroupPart::FirstHalf ? 4 : 8); ++line) {
        for (int l = 0; l < kLanes; ++l) {
            for (int i = 0; i < 4; ++i) dot[l] += weights[line * 64 + l * 4 + i] * a[line * 4 + i];
        }
    }
}

// Call `visit(part, index)` for each part of a group that has its own scale; `index` is its entry in scales and sums.
template <typename Visit>
inline void for_each_scale(const Activations& activations, size_t group, const Visit& visit) {
    if (activations.half_groups) {
        visit(GroupPart::FirstHalf, 2 * group);
        visit(GroupPart::SecondHalf, 2 * group + 1);
    } else {
        visit(GroupPart::Whole, group);
    }
}

void matmul_tile_q4(const uint8_t* tile, const Activations& activations, int token, float* acc) {
    const size_t first = (size_t)token * (size_t)activations.groups();
    for (int group = 0; group < activations.groups(); ++group, tile += kQ4GroupBytes) {
        uint16_t scales[kLanes], minima[kLanes];
        memcpy(scales, tile + 256, sizeof scales);
        memcpy(minima, tile + 288, sizeof minima);
        const size_t token_group = first + (size_t)group;
        for_each_scale(activations, token_group, [&](GroupPart part, size_t index) {
            int32_t dot[kLanes] = {};
            add_dots_q4(tile, activations.quantised + token_group * kGroupSize, part, dot);
            for (int l = 0; l < kLanes; ++l) {
                acc[l] = __builtin_fmaf(half_to_float(minima[l]), activations.scaled_sums[index], acc[l]);
                acc[l] = __builtin_fmaf((float)dot[l] * activations.scales[index], half_to_float(scales[l]), acc[l]);
            }
        });
    }
}

// A format that stores groups in pairs, its values with `offset` added.
template <typename AddDots>
void matmul_tile_pairs(const uint8_t* tile, const Activations& activations, int token, size_t value_bytes, int offset,
                       float* acc, const AddDots& add_dots) {
    const size_t first = (size_t)token * (size_t)activations.groups();
    for (int group = 0; group < activations.groups(); ++group) {
        uint16_t scales[kLanes];
        memcpy(scales, tile + scales_offset(value_bytes, activations.groups(), group), sizeof scales);
        const size_t token_group = first + (size_t)group;
        for_each_scale(activations, token_group, [&](GroupPart part, size_t index) {
            int32_t dot[kLanes] = {};
            add_dots(tile + values_offset(value_bytes, group), activations.quantised + token_group * kGroupSize, part,
                     dot);
            for (int l = 0; l < kLanes; ++l) {
                const float product =
                    (float)(dot[l] - offset * activations.int_sums[index]) * activations.scales[index];
                acc[l] = __builtin_fmaf(product, half_to_float(scales[l]), acc[l]);
            }
        });
    }
}

void matmul_tile(const PackedMatrix& matrix, const uint8_t* tile, const Activations& activations, int token,
                 float* acc) {
    for (int l = 0; l < kLanes; ++l) acc[l] = 0;
    switch (matrix.format) {
        case WeightFormat::Q4:
            return matmul_tile_q4(tile, activations, token, acc);
        case WeightFormat::Q4Symmetric:
            return matmul_tile_pairs(tile, activations, token, kQ4ValueBytes, 8, acc, add_dots_q4);
        case WeightFormat::Q8:
            return matmul_tile_pairs(tile, activations, token, kQ8ValueBytes, 128, acc, add_dots_q8);
        case WeightFormat::Float32:
            return matmul_tile_float32(tile, activations, token, acc);
    }
}

void matmul(const TileRange& tiles, const Activations& activations, int tokens, float* out, size_t ld, Store store) {
    const PackedMatrix& matrix = *tiles.matrix;
    for (int tile = tiles.begin; tile < tiles.end; ++tile) {
        const uint8_t* weights = matrix.data + matrix.tile_bytes * (size_t)tile;
        for (int token = 0; token < tokens; ++token) {
            float acc[kLanes];
            matmul_tile(matrix, weights, activations, token, acc);
            float* target = out + (size_t)token * ld + (size_t)tile * kLanes;
            for (int l = 0; l < kLanes; ++l) target[l] = store == Store::Add ? target[l] + acc[l] : acc[l];
        }
    }
}

void swiglu(float* gate, const float* up, int n) {
    for (int i = 0; i < n; ++i) gate[i] = silu(gate[i]) * up[i];
}

void matmul_swiglu(const TileRange& tiles, const PackedMatrix& up, const Activations& activations, int tokens,
                   float* out, size_t ld) {
    const PackedMatrix& gate = *tiles.matrix;
    for (int tile = tiles.begin; tile < tiles.end; ++tile) {
        const size_t offset = gate.tile_bytes * (size_t)tile;
        for (int token = 0; token < tokens; ++token) {
            float gates[kLanes], ups[kLanes];
            matmul_tile(gate, gate.data + offset, activations, token, gates);
            matmul_tile(up, up.data + offset, activations, token, ups);
            swiglu(gates, ups, kLanes);
            memcpy(out + (size_t)token * ld + (size_t)tile * kLanes, gates, sizeof gates);
        }
    }
}

}  // namespace
}  // namespace empu
