#include "kernels/attend_x86.hpp"
#include "kernels/avx2/vector.hpp"

namespace empu {

namespace {

constexpr int kMaxQueries = 4;    // at once: more sums would not stay in registers
constexpr int kPrefetch = 4096;   // bytes; in memory, values follow keys, and the next head's keys follow the values
constexpr int kColumns = kLanes;  // of a product

// Eight pairs of cache elements.
struct Pairs {
    __m256 first, second;
};

inline Pairs load_pairs(const uint16_t* from) {
    const __m256i pair_bits = _mm256_loadu_si256((const __m256i*)from);
    return {_mm256_castsi256_ps(_mm256_slli_epi32(pair_bits, 16)),
            _mm256_castsi256_ps(_mm256_and_si256(pair_bits, _mm256_set1_epi32((int)0xffff0000)))};
}

inline Pairs load_pairs(const int8_t* from) {
    const __m256i pair_bits = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)from));
    return {_mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(pair_bits, 16), 16)),
            _mm256_cvtepi32_ps(_mm256_srai_epi32(pair_bits, 16))};
}

// C = A B for `Q` queries: A is (Q, depth); B is (depth / 2, columns, 2) in the cache, its rows `ldb` elements apart,
// and its first 16 columns are multiplied. With `Prefetch`, later rows are prefetched whole.
template <int Q, bool Prefetch, typename Element>
inline __attribute__((always_inline)) void matmul(const float* a, int lda, const Element* b, int ldb, int depth,
                                                  __m256 (&c)[Q][2]) {
    for (int q = 0; q < Q; ++q) c[q][0] = c[q][1] = _mm256_setzero_ps();
    for (int d = 0; d < depth; d += 2, a += 2, b += ldb) {
        if constexpr (Prefetch) {
            for (size_t offset = 0; offset < (size_t)ldb * sizeof(Element); offset += 64) {
                _mm_prefetch((const char*)b + kPrefetch + offset, _MM_HINT_T0);
            }
        }
        const Pairs row[] = {load_pairs(b), load_pairs(b + kLanes)};
#pragma GCC unroll 4
        for (int q = 0; q < Q; ++q) {
            const __m256 second = _mm256_broadcast_ss(a + q * lda + 1), first = _mm256_broadcast_ss(a + q * lda);
#pragma GCC unroll 2
            for (int w = 0; w < 2; ++w) {
                c[q][w] = _mm256_fmadd_ps(row[w].second, second, c[q][w]);
                c[q][w] = _mm256_fmadd_ps(row[w].first, first, c[q][w]);
            }
        }
    }
}

inline __m256 scaled_score(const CacheBlockBf16&, int, __m256 score) { return score; }
inline __m256 scaled_score(const CacheBlockInt8& block, int key, __m256 score) {
    return _mm256_mul_ps(score, load_halves((const uint8_t*)(block.key_scales + key)));
}
inline __m256 scaled_weight(const CacheBlockBf16&, int, __m256 weight) { return weight; }
inline __m256 scaled_weight(const CacheBlockInt8& block, int key, __m256 weight) {
    return round_to_bfloat16(_mm256_mul_ps(weight, load_halves((const uint8_t*)(block.value_scales + key))));
}

inline __m256 simd_coarse_exp2(__m256 x) {
    const __m256 whole = round_even(x);
    const __m256 f = _mm256_sub_ps(x, whole);
    const __m256 p = polynomial(kCoarseExp2, f);
    return scale_by_exp2(p, whole);
}

// Add the pairs of sixteen floats to `sum`, the second of a pair first. The results are in the order 0 1 4 5 2 3 6 7.
inline __m256 add_pair_sums(__m256 sum, __m256 low, __m256 high) {
    return _mm256_add_ps(_mm256_add_ps(sum, _mm256_shuffle_ps(low, high, 0xdd)), _mm256_shuffle_ps(low, high, 0x88));
}

inline __m256 restore_order(__m256 x) { return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(x), 0xd8)); }

// Replace the scores of a block by the weights of its values; return the largest score and the sum of the weights.
template <typename Block>
inline void softmax_scores(const Block& block, float* scores, int low, int high, float* max_score, float* weight_sum) {
    constexpr int kVectors = kBlockKeys / kVector;
    __m256 x[kVectors], visible[kVectors], max = _mm256_set1_ps(kMinScore);
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
        const __m256i key = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(kVector * i));
        visible[i] = _mm256_castsi256_ps(_mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(low), key),
                                                             _mm256_cmpgt_epi32(_mm256_set1_epi32(high), key)));
        x[i] = scaled_score(block, kVector * i, _mm256_load_ps(scores + kVector * i));
        max = _mm256_max_ps(_mm256_blendv_ps(max, x[i], visible[i]), max);
    }
    *max_score = largest_lane(max);
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
        const __m256 below = _mm256_sub_ps(x[i], _mm256_set1_ps(*max_score)), min = _mm256_set1_ps(kMinExponent);
        const __m256 clamped = _mm256_max_ps(_mm256_min_ps(below, _mm256_setzero_ps()), min);
        const __m256 nonzero = _mm256_and_ps(visible[i], _mm256_cmp_ps(below, min, _CMP_GE_OQ));
        x[i] = _mm256_and_ps(nonzero, round_to_bfloat16(simd_coarse_exp2(clamped)));
        _mm256_store_ps(scores + kVector * i, scaled_weight(block, kVector * i, x[i]));
    }
    const __m256 zero = _mm256_setzero_ps();
    *weight_sum = add_lanes(restore_order(add_pair_sums(add_pair_sums(zero, x[0], x[1]), x[4], x[5])),
                            restore_order(add_pair_sums(add_pair_sums(zero, x[2], x[3]), x[6], x[7])));
}

// Factors by which each query scales its sum so far (`old`) and the new block (`part`).
struct MergeFactors {
    alignas(2 * kMaxQueries * sizeof(float)) float old[kMaxQueries];
    float part[kMaxQueries];
};
static_assert(sizeof(MergeFactors) == kVector * sizeof(float));  // filled by one store

// Update the running maximum and weight sum of each query by those of a block.
template <int Q>
inline MergeFactors update_softmax(const float* block_max, const float* block_sums, float* max_score,
                                   float* weight_sum) {
    alignas(32) float below[kVector] = {};
    for (int i = 0; i < Q; ++i) {
        const float max = larger(max_score[i], block_max[i]);
        below[i] = max_score[i] - max;
        below[kMaxQueries + i] = block_max[i] - max;
        max_score[i] = max;
    }
    MergeFactors factors;
    _mm256_store_ps(factors.old, simd_exp2(_mm256_load_ps(below)));
    for (int i = 0; i < Q; ++i)
        weight_sum[i] = __builtin_fmaf(weight_sum[i], factors.old[i], block_sums[i] * factors.part[i]);
    return factors;
}

template <int Q, Store S, bool Prefetch, typename Element>
inline void weigh_columns(const float* p, int keys, const Element* values, int width, const MergeFactors& factors,
                          float* out) {
    __m256 c[Q][2];
    matmul<Q, Prefetch>(p, kBlockKeys, values, 2 * width, keys, c);
    for (int q = 0; q < Q; ++q, out += width) {
        for (int w = 0; w < 2; ++w) {
            __m256 value = c[q][w];
            if constexpr (S == Store::Add) {
                value = _mm256_fmadd_ps(_mm256_loadu_ps(out + w * kVector), _mm256_set1_ps(factors.old[q]),
                                        _mm256_mul_ps(value, _mm256_set1_ps(factors.part[q])));
            }
            _mm256_storeu_ps(out + w * kVector, value);
        }
    }
}

template <int Q, bool Prefetch, typename Element>
inline void score_keys(const float* q, const Element* keys, int head_dim, float* scores) {
    __m256 c[Q][2];
    matmul<Q, Prefetch>(q, head_dim, keys, 2 * kBlockKeys, head_dim, c);
    for (int i = 0; i < Q; ++i, scores += kBlockKeys) {
        _mm256_store_ps(scores, c[i][0]);
        _mm256_store_ps(scores + kVector, c[i][1]);
    }
}

template <int Q, Store S, typename Block>
void attend_fixed(const uint16_t* q, int ldq, const Block& block, int head_dim, const int* low, const int* high,
                  float* max_score, float* weight_sum, float* values) {
    float queries[Q * kMaxHeadDim];
    alignas(32) float p[Q][kBlockKeys];
    float block_max[Q], block_sums[Q];
    int keys = 0;  // visible to any query; values past them have weight zero, which changes no sum
    for (int i = 0; i < Q; ++i) {
        keys = high[i] > keys ? high[i] : keys;
        for (int d = 0; d < head_dim; ++d) queries[i * head_dim + d] = bfloat16_to_float(q[i * ldq + d]);
    }
    score_keys<Q, true>(queries, block.keys, head_dim, p[0]);
    for (int key = kColumns; key < kBlockKeys; key += kColumns) {
        if (key < keys) {
            score_keys<Q, false>(queries, block.keys + 2 * key, head_dim, p[0] + key);
        } else {
            for (int i = 0; i < Q; ++i) memset(p[i] + key, 0, sizeof(float) * kColumns);
        }
    }
    for (int i = 0; i < Q; ++i) softmax_scores(block, p[i], low[i], high[i], block_max + i, block_sums + i);
    MergeFactors factors;
    if constexpr (S == Store::Add) {
        factors = update_softmax<Q>(block_max, block_sums, max_score, weight_sum);
    } else {
        for (int i = 0; i < Q; ++i) max_score[i] = block_max[i], weight_sum[i] = block_sums[i];
    }
    const int width = padded(head_dim);
    weigh_columns<Q, S, true>(p[0], keys, block.values, width, factors, values);
    for (int d = kColumns; d < width; d += kColumns) {
        weigh_columns<Q, S, false>(p[0], keys, block.values + 2 * d, width, factors, values + d);
    }
}

template <Store S, typename Block>
constexpr AttendFixed<Block> kAttendFixed[] = {nullptr, attend_fixed<1, S, Block>, attend_fixed<2, S, Block>,
                                               attend_fixed<3, S, Block>, attend_fixed<kMaxQueries, S, Block>};

template <typename Block>
inline EMPU_ATTEND(attend_block, Block) {
    attend_in_batches(store == Store::Set ? kAttendFixed<Store::Set, Block> : kAttendFixed<Store::Add, Block>,
                      kMaxQueries, q, ldq, queries, block, head_dim, low, high, out);
}

}  // namespace

EMPU_ATTEND(avx2_attend, CacheBlockBf16) { attend_block(q, ldq, queries, block, head_dim, low, high, out, store); }
EMPU_ATTEND(avx2_attend_int8, CacheBlockInt8) { attend_block(q, ldq, queries, block, head_dim, low, high, out, store); }

}  // namespace empu
