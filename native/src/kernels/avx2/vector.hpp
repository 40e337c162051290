// AVX2 vector functions that the kernels of this folder share.
#pragma once

#include <immintrin.h>

#include "kernels/scalar/ops.hpp"

namespace empu {
namespace {

constexpr int kVector = 8;  // floats of a register, half the rows of a tile

inline __m256 load_halves(const uint8_t* from) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)from)); }

inline __m256 magnitudes(__m256 x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }

// Sum of lanes 0 to 7 (`low`) and 8 to 15 (`high`).
inline float add_lanes(__m256 low, __m256 high) {
    const __m256 eight = _mm256_add_ps(low, high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

inline float largest_lane(__m256 lanes) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps(lanes, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

// Round to bfloat16, to nearest, ties to even; kept as floats. For finite values well inside the range.
inline __m256 round_to_bfloat16(__m256 x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    return _mm256_castsi256_ps(_mm256_and_si256(sum, _mm256_set1_epi32((int)0xffff0000)));
}

inline __m256 round_even(__m256 x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

// x * 2^exponent, where 2^exponent is a normal float.
inline __m256 scale_by_exp2(__m256 x, __m256 exponent) {
    const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(exponent), _mm256_set1_epi32(127));
    return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23)));
}

template <size_t N>
inline __m256 polynomial(const float (&coefficients)[N], __m256 f) {
    __m256 p = _mm256_set1_ps(coefficients[0]);
#pragma GCC unroll 8
    for (size_t i = 1; i < N; ++i) p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(coefficients[i]));
    return p;
}

inline __m256 simd_exp2(__m256 x) {
    x = _mm256_max_ps(x, _mm256_set1_ps(-126.0f));
    const __m256 whole = round_even(x);
    const __m256 f = _mm256_sub_ps(x, whole);
    const __m256 p = polynomial(kExp2, f);
    return scale_by_exp2(p, whole);
}

inline __m256 simd_gelu(__m256 x) {
    const __m256 a = magnitudes(x), one = _mm256_set1_ps(1.0f);
    const __m256 t = _mm256_div_ps(one, _mm256_fmadd_ps(a, _mm256_set1_ps(kTailSlope), one));
    const __m256 power = simd_exp2(_mm256_mul_ps(_mm256_mul_ps(a, a), _mm256_set1_ps(kTailExponent)));
    const __m256 tail = _mm256_mul_ps(_mm256_mul_ps(polynomial(kTail, t), t), power);
    const __m256 negative = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ);
    return _mm256_blendv_ps(_mm256_fnmadd_ps(x, tail, x), _mm256_mul_ps(x, tail), negative);
}

inline __m256 simd_silu(__m256 x) {
    const __m256 power = simd_exp2(_mm256_mul_ps(magnitudes(x), _mm256_set1_ps(-1.44269504f)));
    const __m256 one = _mm256_set1_ps(1.0f);
    const __m256 negative = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ);
    return _mm256_div_ps(_mm256_mul_ps(x, _mm256_blendv_ps(one, power, negative)), _mm256_add_ps(one, power));
}

void simd_swiglu(float* gate, const float* up, int n) {
    for (int i = 0; i < n; i += kVector) {
        _mm256_storeu_ps(gate + i, _mm256_mul_ps(simd_silu(_mm256_loadu_ps(gate + i)), _mm256_loadu_ps(up + i)));
    }
}

}  // namespace
}  // namespace empu
