// All kernels in plain loops over 16 lanes: the oracle of the others, and the engine itself where nothing faster
// exists.
//
// Each ops.cpp includes this file and compiles it for its own instruction set. So everything stays in an anonymous
// namespace, and no library template is used: one instance of such a template would be shared by all, with instructions
// that some processors lack.
#pragma once

#include "kernels/scalar/attention.hpp"
#include "kernels/scalar/math.hpp"
#include "kernels/scalar/matmul.hpp"

namespace empu {
namespace {

void rms_norm(const float* x, const float* weight, int n, float eps, float* out) {
    float lanes[kLanes] = {};
    for (int i = 0; i < padded(n); i += kLanes) {
        for (int l = 0; l < kLanes; ++l) lanes[l] = __builtin_fmaf(x[i + l], x[i + l], lanes[l]);
    }
    const float scale = 1.0f / __builtin_sqrtf(add_lanes(lanes) / (float)n + eps);
    for (int i = 0; i < padded(n); ++i) out[i] = x[i] * scale * weight[i];
}

void rotate(const float* x, const float* cosines, const float* sines, int pairs, float factor, float* out) {
    for (int i = 0; i < pairs; ++i) {
        const float first = x[2 * i], second = x[2 * i + 1];
        out[2 * i] = (first * cosines[i] - second * sines[i]) * factor;
        out[2 * i + 1] = (first * sines[i] + second * cosines[i]) * factor;
    }
}

void to_bfloat16(const float* x, int n, uint16_t* out) {
    for (int i = 0; i < n; ++i) {
        const float clamped = larger(smaller(x[i], 0x1p50f), -0x1p50f);
        out[i] = magnitude(clamped) < 0x1p-50f ? (uint16_t)0 : float_to_bfloat16(clamped);
    }
}

void to_int8(const float* x, int n, int8_t* out, uint16_t* scale) {
    float max_magnitude = 0;
    for (int i = 0; i < n; ++i) max_magnitude = larger(magnitude(x[i]), max_magnitude);
    *scale = float_to_half(max_magnitude / 127.0f);
    const float stored = half_to_float(*scale);
    const float inverse = stored > 0 ? 1.0f / stored : 0.0f;
    for (int i = 0; i < n; ++i) out[i] = round_to_int8(larger(smaller(x[i] * inverse, 127.0f), -127.0f));
}

constexpr float kMinNumeratorExponent = -100.0f;

float softmax_numerators(const float* x, int n, float max, float factor, float* out) {
    float lanes[kLanes] = {};
    for (int i = 0; i < n; i += kLanes) {
        for (int l = 0; l < kLanes; ++l) {
            const float exponent = (x[i + l] - max) * factor;
            out[i + l] = exponent >= kMinNumeratorExponent ? scalar_exp2(exponent) : 0.0f;
            lanes[l] += out[i + l];
        }
    }
    return add_lanes(lanes);
}

void layer_norm(float* x, const float* bias, const float* weight, const float* shift, int n, float eps) {
    float sums[kLanes] = {}, squares[kLanes] = {};
    for (int i = 0; i < n; i += kLanes) {
        for (int l = 0; l < kLanes; ++l) {
            x[i + l] += bias[i + l];
            sums[l] += x[i + l];
        }
    }
    const float mean = add_lanes(sums) / (float)n;
    for (int i = 0; i < n; i += kLanes) {
        for (int l = 0; l < kLanes; ++l) {
            const float centred = x[i + l] - mean;
            squares[l] = __builtin_fmaf(centred, centred, squares[l]);
        }
    }
    const float scale = 1.0f / __builtin_sqrtf(add_lanes(squares) / (float)n + eps);
    for (int i = 0; i < n; ++i) x[i] = __builtin_fmaf((x[i] - mean) * scale, weight[i], shift[i]);
}

void gelu(float* x, const float* bias, int n) {
    for (int i = 0; i < n; ++i) x[i] = scalar_gelu(x[i] + bias[i]);
}

int64_t int8_products(int rounds, int32_t& sum) {
    constexpr int kCount = 256;
    uint8_t a[kCount];
    int8_t b[kCount];
    for (int i = 0; i < kCount; ++i) a[i] = uint8_t(i), b[i] = int8_t(i - 128);
    for (int round = 0; round < rounds; ++round) {
        asm volatile("" : : "r"(a), "r"(b) : "memory");  // load again in each round
        for (int i = 0; i < kCount; ++i) sum += int32_t(a[i]) * int32_t(b[i]);
    }
    return int64_t(rounds) * kCount;
}

}  // namespace
}  // namespace empu
