// AVX-512 vector functions that the kernels of this folder share.
#pragma once

#include <immintrin.h>

#include "kernels/scalar/ops.hpp"

namespace empu {
namespace {

inline __m512 load_halves(const uint8_t* from) { return _mm512_cvtph_ps(_mm256_load_si256((const __m256i*)from)); }

inline float add_lanes(__m512 lanes) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps(lanes, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// Round to bfloat16, to nearest, ties to even; kept as floats. For finite values well inside the range.
inline __m512 round_to_bfloat16(__m512 x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    return _mm512_castsi512_ps(_mm512_and_si512(sum, _mm512_set1_epi32((int)0xffff0000)));
}

inline float largest_lane(__m512 lanes) { return _mm512_reduce_max_ps(lanes); }

template <size_t N>
inline __m512 polynomial(const float (&coefficients)[N], __m512 f) {
    __m512 p = _mm512_set1_ps(coefficients[0]);
#pragma GCC unroll 8
    for (size_t i = 1; i < N; ++i) p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(coefficients[i]));
    return p;
}

inline __m512 simd_exp2(__m512 x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-126.0f));
    const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 f = _mm512_sub_ps(x, whole);
    const __m512 p = polynomial(kExp2, f);
    return _mm512_scalef_ps(p, whole);
}

inline __m512 simd_gelu(__m512 x) {
    const __m512 a = _mm512_abs_ps(x), one = _mm512_set1_ps(1.0f);
    const __m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(a, _mm512_set1_ps(kTailSlope), one));
    const __m512 power = simd_exp2(_mm512_mul_ps(_mm512_mul_ps(a, a), _mm512_set1_ps(kTailExponent)));
    const __m512 tail = _mm512_mul_ps(_mm512_mul_ps(polynomial(kTail, t), t), power);
    const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    return _mm512_mask_mul_ps(_mm512_fnmadd_ps(x, tail, x), negative, x, tail);
}

inline __m512 simd_silu(__m512 x) {
    const __m512 power = simd_exp2(_mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(-1.44269504f)));
    const __m512 one = _mm512_set1_ps(1.0f);
    const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    const __m512 numerator = _mm512_mul_ps(x, _mm512_mask_blend_ps(negative, one, power));
    return _mm512_div_ps(numerator, _mm512_add_ps(one, power));
}

}  // namespace
}  // namespace empu
