// Scalar functions that the kernels of all instruction sets share. See scalar/ops.hpp for why everything is in an
// anonymous namespace.
#pragma once

#include "kernels/float16.hpp"
#include "kernels/ops.hpp"

namespace empu {
namespace {

inline float larger(float a, float b) { return a > b ? a : b; }
inline float smaller(float a, float b) { return a < b ? a : b; }
inline float magnitude(float x) { return bits_to_float(float_to_bits(x) & 0x7fffffffu); }
inline int padded(int n) { return (n + kLanes - 1) / kLanes * kLanes; }

inline float add_lanes(float* lanes) {
    for (int half = kLanes / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    }
    return lanes[0];
}

// To nearest, ties to even, for |x| below 2^22.
inline float round_even(float x) { return (x + 12582912.0f) - 12582912.0f; }

// To int8 as above: the sum with 1.5 * 2^23 has the rounded value in its lowest bits.
inline int8_t round_to_int8(float x) { return (int8_t)(uint8_t)(float_to_bits(x + 12582912.0f) & 0xffu); }

inline float round_to_bfloat16(float x) { return bfloat16_to_float(float_to_bfloat16(x)); }

// Polynomials for 2^f, f in [-0.5, 0.5], highest power first. The SIMD kernels use the same ones in the same order.
constexpr float kExp2[] = {1.5403530e-4f, 1.3333558e-3f, 9.6181291e-3f, 5.5504109e-2f,
                           2.4022651e-1f, 6.9314718e-1f, 1.0f};
constexpr float kCoarseExp2[] = {0.05517167f, 0.24261112f, 0.69326099f, 0.99992807f};

template <size_t N>
inline float polynomial(const float (&coefficients)[N], float x) {
    float p = coefficients[0];
    for (size_t i = 1; i < N; ++i) p = __builtin_fmaf(p, x, coefficients[i]);
    return p;
}

// 2^x for x <= 0 within two units in the last place, 1 for 0; a polynomial for the fraction in [-0.5, 0.5].
inline float scalar_exp2(float x) {
    x = larger(x, -126.0f);
    const float whole = round_even(x);
    const float f = x - whole;
    return polynomial(kExp2, f) * bits_to_float((uint32_t)((int32_t)whole + 127) << 23);
}

// 2^x for x in [-40, 0] within 1/13,000, much less than the rounding to bfloat16 that follows.
inline float scalar_coarse_exp2(float x) {
    const float whole = round_even(x);
    const float f = x - whole;
    return polynomial(kCoarseExp2, f) * bits_to_float((uint32_t)((int32_t)whole + 127) << 23);
}

// The upper tail of the normal distribution at a >= 0 is t p(t) e^(-a^2 / 2) with t = 1 / (1 + kTailSlope a): half the
// complementary error function of Abramowitz and Stegun 7.1.26, which is wrong by at most 1.5e-7.
constexpr float kTailSlope = 0.23164190f, kTailExponent = -0.72134752f;
constexpr float kTail[] = {0.53070271f, -0.72657601f, 0.71070687f, -0.14224837f, 0.12741480f};

// x times the normal distribution function of x.
inline float scalar_gelu(float x) {
    const float a = magnitude(x);
    const float t = 1.0f / __builtin_fmaf(a, kTailSlope, 1.0f);
    const float tail = polynomial(kTail, t) * t * scalar_exp2(a * a * kTailExponent);
    return x < 0 ? x * tail : __builtin_fmaf(-x, tail, x);
}

// x / (1 + e^-x), computed from e^-|x| so that nothing overflows.
inline float silu(float x) {
    const float power = scalar_exp2(magnitude(x) * -1.44269504f);
    return x * (x < 0 ? power : 1.0f) / (1.0f + power);
}

}  // namespace
}  // namespace empu
