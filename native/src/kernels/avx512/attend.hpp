// Attention with AVX-512: parts that its files share. EMPU_BF16 selects products of bfloat16 pairs.
#pragma once

#include "kernels/attend_x86.hpp"
#include "kernels/avx512/vector.hpp"

namespace empu {

namespace {

// Sixteen pairs of cache elements. `Factor` is the type, in memory, of one element that they are multiplied by.
#if defined(EMPU_BF16)

using Factor = uint16_t;
using Pairs = __m512i;
constexpr int kMaxQueries = 6;  // at once: more sums would not stay in registers

inline Pairs load_pairs(const uint16_t* from) { return _mm512_load_si512(from); }

inline Pairs load_pairs(const int8_t* from) {
    const __m512i pair_bits = _mm512_cvtepi8_epi16(_mm256_load_si256((const __m256i*)from));
    const __m512 first = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(pair_bits, 16), 16));
    const __m512 second = _mm512_cvtepi32_ps(_mm512_srai_epi32(pair_bits, 16));
    return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(_mm512_castps_si512(first), 16),
                                   _mm512_castps_si512(second));
}

inline __m512 add_pairs(__m512 sum, Pairs pairs, const Factor* factors) {
    int32_t pair_bits;
    memcpy(&pair_bits, factors, sizeof pair_bits);
    return _mm512_dpbf16_ps(sum, (__m512bh)pairs, (__m512bh)_mm512_set1_epi32(pair_bits));
}

// The queries as factors; here `buffer` is not needed.
inline const Factor* query_factors(const uint16_t* q, int, int, int, Factor*) { return q; }
inline size_t query_stride(int ldq, int) { return (size_t)ldq; }
constexpr int kFactorBuffer = 1;

// Store the weights as factors, rounded to bfloat16, and return their sums by lane.
inline __m512 store_weights(__m512 (&weights)[4], Factor* out) {
    const __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3f80);
    __m512 sum = _mm512_setzero_ps();
    for (int i = 0; i < 2; ++i) {
        const __m512bh pair_bits = _mm512_cvtne2ps_pbh(weights[2 * i + 1], weights[2 * i]);
        _mm512_store_si512(out + 2 * kLanes * i, (__m512i)pair_bits);
        sum = _mm512_dpbf16_ps(sum, pair_bits, ones);
    }
    return sum;
}

inline void scale_stored_weights(const CacheBlockInt8& block, Factor* weights) {
    for (int i = 0; i < 2; ++i) {
        __m512 scaled[2];
        for (int j = 0; j < 2; ++j) {
            const int offset = kLanes * (2 * i + j);
            const __m512i bits = _mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i*)(weights + offset)));
            scaled[j] = _mm512_mul_ps(_mm512_castsi512_ps(_mm512_slli_epi32(bits, 16)),
                                      load_halves((const uint8_t*)(block.value_scales + offset)));
        }
        _mm512_store_si512(weights + 2 * kLanes * i, (__m512i)_mm512_cvtne2ps_pbh(scaled[1], scaled[0]));
    }
}

#else

using Factor = float;
struct Pairs {
    __m512 first, second;
};
constexpr int kMaxQueries = 5;

inline Pairs load_pairs(const uint16_t* from) {
    const __m512i pair_bits = _mm512_load_si512(from);
    return {_mm512_castsi512_ps(_mm512_slli_epi32(pair_bits, 16)),
            _mm512_castsi512_ps(_mm512_and_si512(pair_bits, _mm512_set1_epi32((int)0xffff0000)))};
}

inline Pairs load_pairs(const int8_t* from) {
    const __m512i pair_bits = _mm512_cvtepi8_epi16(_mm256_load_si256((const __m256i*)from));
    return {_mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(pair_bits, 16), 16)),
            _mm512_cvtepi32_ps(_mm512_srai_epi32(pair_bits, 16))};
}

inline __m512 add_pairs(__m512 sum, const Pairs& pairs, const Factor* factors) {
    sum = _mm512_fmadd_ps(pairs.second, _mm512_set1_ps(factors[1]), sum);
    return _mm512_fmadd_ps(pairs.first, _mm512_set1_ps(factors[0]), sum);
}

inline const Factor* query_factors(const uint16_t* q, int ldq, int queries, int head_dim, Factor* buffer) {
    for (int i = 0; i < queries; ++i) {
        for (int d = 0; d < head_dim; ++d) buffer[i * head_dim + d] = bfloat16_to_float(q[i * ldq + d]);
    }
    return buffer;
}
inline size_t query_stride(int, int head_dim) { return (size_t)head_dim; }
constexpr int kFactorBuffer = kMaxQueries * kMaxHeadDim;

inline __m512 store_weights(__m512 (&weights)[4], Factor* out) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    __m512 sum = _mm512_setzero_ps();
    for (int i = 0; i < 2; ++i) {
        const __m512 low = round_to_bfloat16(weights[2 * i]), high = round_to_bfloat16(weights[2 * i + 1]);
        _mm512_store_ps(out + 2 * kLanes * i, low);
        _mm512_store_ps(out + 2 * kLanes * i + kLanes, high);
        sum = _mm512_add_ps(_mm512_add_ps(sum, _mm512_permutex2var_ps(low, odd, high)),
                            _mm512_permutex2var_ps(low, even, high));
    }
    return sum;
}

inline void scale_stored_weights(const CacheBlockInt8& block, Factor* weights) {
    for (int offset = 0; offset < kBlockKeys; offset += kLanes) {
        const __m512 scales = load_halves((const uint8_t*)(block.value_scales + offset));
        _mm512_store_ps(weights + offset, round_to_bfloat16(_mm512_mul_ps(_mm512_load_ps(weights + offset), scales)));
    }
}

#endif

inline void scale_stored_weights(const CacheBlockBf16&, Factor*) {}

inline void scale_scores(const CacheBlockBf16&, __m512 (&)[4]) {}
inline void scale_scores(const CacheBlockInt8& block, __m512 (&scores)[4]) {
    for (int w = 0; w < 4; ++w) {
        scores[w] = _mm512_mul_ps(scores[w], load_halves((const uint8_t*)(block.key_scales + w * kLanes)));
    }
}

inline __m512 simd_coarse_exp2(__mmask16 nonzero, __m512 x) {
    const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 f = _mm512_sub_ps(x, whole);
    const __m512 p = polynomial(kCoarseExp2, f);
    return _mm512_maskz_scalef_ps(nonzero, p, whole);
}

// Factors by which each query scales its sum so far (`old`) and the new block (`part`).
struct MergeFactors {
    alignas(64) float old[kLanes], part[kLanes];
};

// Update the running maximum and weight sum of each query by those of a block.
inline MergeFactors update_softmax(int queries, const float* block_max, const float* block_sums, float* max_score,
                                   float* weight_sum) {
    const __mmask16 mask = (__mmask16)((1u << queries) - 1);
    const __m512 part_max = _mm512_load_ps(block_max), old_max = _mm512_maskz_loadu_ps(mask, max_score);
    const __m512 max = _mm512_max_ps(old_max, part_max);
    const __m512 old_factor = simd_exp2(_mm512_sub_ps(old_max, max));
    const __m512 part_factor = simd_exp2(_mm512_sub_ps(part_max, max));
    const __m512 added = _mm512_mul_ps(_mm512_load_ps(block_sums), part_factor);
    _mm512_mask_storeu_ps(max_score, mask, max);
    _mm512_mask_storeu_ps(weight_sum, mask,
                          _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, weight_sum), old_factor, added));
    MergeFactors factors;
    _mm512_store_ps(factors.old, old_factor);
    _mm512_store_ps(factors.part, part_factor);
    return factors;
}

// Store in `out` the weights of one query from its scores for 64 keys, of which it sees [low, high). Return their sum,
// and in `max_score` the largest score.
template <typename Block>
inline float softmax_scores(const Block& block, __m512 (&scores)[4], int low, int high, Factor* out, float& max_score) {
    scale_scores(block, scores);
    const bool sees_any = low < high;
    const uint64_t below_high = high >= kBlockKeys ? ~0ull : sees_any ? (1ull << high) - 1 : 0;
    const uint64_t visible = sees_any ? below_high & ~((1ull << low) - 1) : 0;
    __m512 max = _mm512_set1_ps(kMinScore);
#pragma GCC unroll 4
    for (int w = 0; w < 4; ++w) max = _mm512_mask_max_ps(max, (__mmask16)(visible >> 16 * w), scores[w], max);
    max_score = largest_lane(max);
#pragma GCC unroll 4
    for (int w = 0; w < 4; ++w) {
        const __m512 x = _mm512_sub_ps(scores[w], _mm512_set1_ps(max_score));
        const __mmask16 nonzero =
            _mm512_mask_cmp_ps_mask((__mmask16)(visible >> 16 * w), x, _mm512_set1_ps(kMinExponent), _CMP_GE_OQ);
        scores[w] = simd_coarse_exp2(nonzero, x);
    }
    const float sum = add_lanes(store_weights(scores, out));
    scale_stored_weights(block, out);
    return sum;
}

}  // namespace
}  // namespace empu
