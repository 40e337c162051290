// What the files for attention with AVX-512 share; EMPU_BF16 for products of bfloat16 pairs.
#pragma once

#include "kernels/attend_x86.hpp"
#include "kernels/avx512/vector.hpp"

namespace empu {

namespace {

// Sixteen pairs of the cache, and what multiplies them: `Factor` is one number of a pair in memory.
#if defined(EMPU_BF16)

using Factor = uint16_t;
using Pairs = __m512i;
constexpr int kMostQueries = 6;  // of more, the sums do not stay in registers

inline Pairs pairs(const uint16_t* at) { return _mm512_load_si512(at); }

inline Pairs pairs(const int8_t* at) {
    const __m512i both = _mm512_cvtepi8_epi16(_mm256_load_si256((const __m256i*)at));
    const __m512 first = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(both, 16), 16));
    const __m512 second = _mm512_cvtepi32_ps(_mm512_srai_epi32(both, 16));
    return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(_mm512_castps_si512(first), 16),
                                   _mm512_castps_si512(second));
}

inline __m512 add_pairs(__m512 sum, Pairs pairs, const Factor* factors) {
    int32_t both;
    memcpy(&both, factors, sizeof both);
    return _mm512_dpbf16_ps(sum, (__m512bh)pairs, (__m512bh)_mm512_set1_epi32(both));
}

// The queries as factors; `room` is not needed.
inline const Factor* factors_of(const uint16_t* q, int, int, int, Factor*) { return q; }
inline size_t factor_stride(int ldq, int) { return (size_t)ldq; }
constexpr int kFactorRoom = 1;

// Weights become numbers of bfloat16 as factors, and their sums lane by lane are given.
inline __m512 keep_weights(__m512 (&weights)[4], Factor* out) {
    const __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3f80);
    __m512 sum = _mm512_setzero_ps();
    for (int i = 0; i < 2; ++i) {
        const __m512bh both = _mm512_cvtne2ps_pbh(weights[2 * i + 1], weights[2 * i]);
        _mm512_store_si512(out + 2 * kLanes * i, (__m512i)both);
        sum = _mm512_dpbf16_ps(sum, both, ones);
    }
    return sum;
}

inline void scale_kept(const SmallBlock& block, Factor* weights) {
    for (int i = 0; i < 2; ++i) {
        __m512 scaled[2];
        for (int j = 0; j < 2; ++j) {
            const int at = kLanes * (2 * i + j);
            const __m512i bits = _mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i*)(weights + at)));
            scaled[j] = _mm512_mul_ps(_mm512_castsi512_ps(_mm512_slli_epi32(bits, 16)),
                                      halves((const uint8_t*)(block.value_scales + at)));
        }
        _mm512_store_si512(weights + 2 * kLanes * i, (__m512i)_mm512_cvtne2ps_pbh(scaled[1], scaled[0]));
    }
}

#else

using Factor = float;
struct Pairs {
    __m512 first, second;
};
constexpr int kMostQueries = 5;

inline Pairs pairs(const uint16_t* at) {
    const __m512i both = _mm512_load_si512(at);
    return {_mm512_castsi512_ps(_mm512_slli_epi32(both, 16)),
            _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32((int)0xffff0000)))};
}

inline Pairs pairs(const int8_t* at) {
    const __m512i both = _mm512_cvtepi8_epi16(_mm256_load_si256((const __m256i*)at));
    return {_mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(both, 16), 16)),
            _mm512_cvtepi32_ps(_mm512_srai_epi32(both, 16))};
}

inline __m512 add_pairs(__m512 sum, const Pairs& pairs, const Factor* factors) {
    sum = _mm512_fmadd_ps(pairs.second, _mm512_set1_ps(factors[1]), sum);
    return _mm512_fmadd_ps(pairs.first, _mm512_set1_ps(factors[0]), sum);
}

inline const Factor* factors_of(const uint16_t* q, int ldq, int queries, int head_dim, Factor* room) {
    for (int i = 0; i < queries; ++i) {
        for (int d = 0; d < head_dim; ++d) room[i * head_dim + d] = float_of_bfloat(q[i * ldq + d]);
    }
    return room;
}
inline size_t factor_stride(int, int head_dim) { return (size_t)head_dim; }
constexpr int kFactorRoom = kMostQueries * kMostHeadDim;

inline __m512 keep_weights(__m512 (&weights)[4], Factor* out) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    __m512 sum = _mm512_setzero_ps();
    for (int i = 0; i < 2; ++i) {
        const __m512 low = round_to_bfloat(weights[2 * i]), high = round_to_bfloat(weights[2 * i + 1]);
        _mm512_store_ps(out + 2 * kLanes * i, low);
        _mm512_store_ps(out + 2 * kLanes * i + kLanes, high);
        sum = _mm512_add_ps(_mm512_add_ps(sum, _mm512_permutex2var_ps(low, odd, high)),
                            _mm512_permutex2var_ps(low, even, high));
    }
    return sum;
}

inline void scale_kept(const SmallBlock& block, Factor* weights) {
    for (int at = 0; at < kBlockKeys; at += kLanes) {
        const __m512 scales = halves((const uint8_t*)(block.value_scales + at));
        _mm512_store_ps(weights + at, round_to_bfloat(_mm512_mul_ps(_mm512_load_ps(weights + at), scales)));
    }
}

#endif

inline void scale_kept(const CacheBlock&, Factor*) {}

inline void scale_scores(const CacheBlock&, __m512 (&)[4]) {}
inline void scale_scores(const SmallBlock& block, __m512 (&scores)[4]) {
    for (int w = 0; w < 4; ++w) {
        scores[w] = _mm512_mul_ps(scores[w], halves((const uint8_t*)(block.key_scales + w * kLanes)));
    }
}

inline __m512 coarse_exp2_wide(__mmask16 kept, __m512 x) {
    const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 f = _mm512_sub_ps(x, whole);
    const __m512 p = polynomial(kCoarseExp2, f);
    return _mm512_maskz_scalef_ps(kept, p, whole);
}

// What a query keeps of its sum so far, and takes of the new block.
struct Shares {
    alignas(64) float old_ones[kLanes], new_ones[kLanes];
};

inline Shares add_weights(int queries, const float* tops, const float* sums, float* largest, float* weight) {
    const __mmask16 some = (__mmask16)((1u << queries) - 1);
    const __m512 part_top = _mm512_load_ps(tops), old_top = _mm512_maskz_loadu_ps(some, largest);
    const __m512 top = _mm512_max_ps(old_top, part_top);
    const __m512 old_share = exp2_wide(_mm512_sub_ps(old_top, top)), share = exp2_wide(_mm512_sub_ps(part_top, top));
    const __m512 added = _mm512_mul_ps(_mm512_load_ps(sums), share);
    _mm512_mask_storeu_ps(largest, some, top);
    _mm512_mask_storeu_ps(weight, some, _mm512_fmadd_ps(_mm512_maskz_loadu_ps(some, weight), old_share, added));
    Shares shares;
    _mm512_store_ps(shares.old_ones, old_share);
    _mm512_store_ps(shares.new_ones, share);
    return shares;
}

// The scores of a query for 64 keys, of which it sees [low, high), become weights in `out`; gives their sum, and in
// `top` the largest score.
template <typename Block>
inline float weigh_scores(const Block& block, __m512 (&scores)[4], int low, int high, Factor* out, float& top) {
    scale_scores(block, scores);
    const bool any = low < high;
    const uint64_t until = high >= kBlockKeys ? ~0ull : any ? (1ull << high) - 1 : 0;
    const uint64_t seen = any ? until & ~((1ull << low) - 1) : 0;
    __m512 most = _mm512_set1_ps(kNothing);
#pragma GCC unroll 4
    for (int w = 0; w < 4; ++w) most = _mm512_mask_max_ps(most, (__mmask16)(seen >> 16 * w), scores[w], most);
    top = largest_lane(most);
#pragma GCC unroll 4
    for (int w = 0; w < 4; ++w) {
        const __m512 x = _mm512_sub_ps(scores[w], _mm512_set1_ps(top));
        const __mmask16 kept =
            _mm512_mask_cmp_ps_mask((__mmask16)(seen >> 16 * w), x, _mm512_set1_ps(kLeastPower), _CMP_GE_OQ);
        scores[w] = coarse_exp2_wide(kept, x);
    }
    const float sum = add_lanes(keep_weights(scores, out));
    scale_kept(block, out);
    return sum;
}

}  // namespace
}  // namespace empu
