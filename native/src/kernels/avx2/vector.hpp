// What the files for AVX2 share.
#pragma once

#include <immintrin.h>

#include "kernels/scalar/ops.hpp"

namespace empu {
namespace {

constexpr int kHalf = 8;

inline __m256 halves(const uint8_t* at) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)at)); }

inline __m256 magnitudes(__m256 x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }

// Of lanes 0 to 7 and 8 to 15.
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

// To bfloat16, to nearest, ties to even; as floats, for finite values well inside the range.
inline __m256 round_to_bfloat(__m256 x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    return _mm256_castsi256_ps(_mm256_and_si256(sum, _mm256_set1_epi32((int)0xffff0000)));
}

inline __m256 to_whole(__m256 x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

// x * 2^whole, for exponents that are those of normal numbers.
inline __m256 times_power(__m256 x, __m256 whole) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127));
    return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}

template <size_t N>
inline __m256 polynomial(const float (&factors)[N], __m256 f) {
    __m256 p = _mm256_set1_ps(factors[0]);
#pragma GCC unroll 8
    for (size_t i = 1; i < N; ++i) p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(factors[i]));
    return p;
}

inline __m256 exp2_wide(__m256 x) {
    x = _mm256_max_ps(x, _mm256_set1_ps(-126.0f));
    const __m256 whole = to_whole(x);
    const __m256 f = _mm256_sub_ps(x, whole);
    const __m256 p = polynomial(kExp2, f);
    return times_power(p, whole);
}

}  // namespace
}  // namespace empu
