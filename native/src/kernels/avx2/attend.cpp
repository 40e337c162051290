#include "kernels/attend_x86.hpp"
#include "kernels/avx2/vector.hpp"

namespace empu {

namespace {

constexpr int kMostQueries = 4;    // of more, the sums do not stay in registers
constexpr int kCacheAhead = 4096;  // bytes: values follow keys in memory, and the next head's keys the values
constexpr int kColumns = kLanes;   // of a product

// Eight pairs of the cache.
struct Pairs {
    __m256 first, second;
};

inline Pairs pairs(const uint16_t* at) {
    const __m256i both = _mm256_loadu_si256((const __m256i*)at);
    return {_mm256_castsi256_ps(_mm256_slli_epi32(both, 16)),
            _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32((int)0xffff0000)))};
}

inline Pairs pairs(const int8_t* at) {
    const __m256i both = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)at));
    return {_mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(both, 16), 16)),
            _mm256_cvtepi32_ps(_mm256_srai_epi32(both, 16))};
}

// C = A B for `Q` queries: A (Q, depth) factors, B (depth / 2, columns, 2) numbers of the cache, of which 16 columns
// are taken; rows of B are `ldb` numbers apart. Ahead: fetches whole rows that come later.
template <int Q, bool Ahead, typename Number>
inline __attribute__((always_inline)) void product(const float* a, int lda, const Number* b, int ldb, int depth,
                                                   __m256 (&c)[Q][2]) {
    for (int q = 0; q < Q; ++q) c[q][0] = c[q][1] = _mm256_setzero_ps();
    for (int d = 0; d < depth; d += 2, a += 2, b += ldb) {
        if constexpr (Ahead) {
            for (size_t at = 0; at < (size_t)ldb * sizeof(Number); at += 64) {
                _mm_prefetch((const char*)b + kCacheAhead + at, _MM_HINT_T0);
            }
        }
        const Pairs row[] = {pairs(b), pairs(b + kLanes)};
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

inline __m256 scaled_score(const CacheBlock&, int, __m256 score) { return score; }
inline __m256 scaled_score(const SmallBlock& block, int key, __m256 score) {
    return _mm256_mul_ps(score, halves((const uint8_t*)(block.key_scales + key)));
}
inline __m256 scaled_weight(const CacheBlock&, int, __m256 weight) { return weight; }
inline __m256 scaled_weight(const SmallBlock& block, int key, __m256 weight) {
    return round_to_bfloat(_mm256_mul_ps(weight, halves((const uint8_t*)(block.value_scales + key))));
}

inline __m256 coarse_exp2_wide(__m256 x) {
    const __m256 whole = to_whole(x);
    const __m256 f = _mm256_sub_ps(x, whole);
    const __m256 p = polynomial(kCoarseExp2, f);
    return times_power(p, whole);
}

// The sum of each of sixteen numbers' pairs and `sum`, the second of a pair first; in the order 0 1 4 5 2 3 6 7.
inline __m256 add_neighbours(__m256 sum, __m256 low, __m256 high) {
    return _mm256_add_ps(_mm256_add_ps(sum, _mm256_shuffle_ps(low, high, 0xdd)), _mm256_shuffle_ps(low, high, 0x88));
}

inline __m256 in_order(__m256 x) { return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(x), 0xd8)); }

// Turns scores of a block into what its values are multiplied by; gives the largest score and the sum of the weights.
template <typename Block>
inline void wide_weights(const Block& block, float* scores, int low, int high, float* top, float* sum) {
    constexpr int kVectors = kBlockKeys / kHalf;
    __m256 x[kVectors], seen[kVectors], most = _mm256_set1_ps(kNothing);
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
        const __m256i key = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(kHalf * i));
        seen[i] = _mm256_castsi256_ps(_mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(low), key),
                                                          _mm256_cmpgt_epi32(_mm256_set1_epi32(high), key)));
        x[i] = scaled_score(block, kHalf * i, _mm256_load_ps(scores + kHalf * i));
        most = _mm256_max_ps(_mm256_blendv_ps(most, x[i], seen[i]), most);
    }
    *top = largest_lane(most);
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
        const __m256 below = _mm256_sub_ps(x[i], _mm256_set1_ps(*top)), least = _mm256_set1_ps(kLeastPower);
        const __m256 within = _mm256_max_ps(_mm256_min_ps(below, _mm256_setzero_ps()), least);
        const __m256 kept = _mm256_and_ps(seen[i], _mm256_cmp_ps(below, least, _CMP_GE_OQ));
        x[i] = _mm256_and_ps(kept, round_to_bfloat(coarse_exp2_wide(within)));
        _mm256_store_ps(scores + kHalf * i, scaled_weight(block, kHalf * i, x[i]));
    }
    const __m256 none = _mm256_setzero_ps();
    *sum = add_lanes(in_order(add_neighbours(add_neighbours(none, x[0], x[1]), x[4], x[5])),
                     in_order(add_neighbours(add_neighbours(none, x[2], x[3]), x[6], x[7])));
}

// What a query keeps of its sum so far, and takes of the new block.
struct Shares {
    alignas(2 * kMostQueries * sizeof(float)) float old_ones[kMostQueries];
    float new_ones[kMostQueries];
};
static_assert(sizeof(Shares) == kHalf * sizeof(float));  // one vector

template <int Q>
inline Shares add_weights(const float* tops, const float* sums, float* largest, float* weight) {
    alignas(32) float below[kHalf] = {};
    for (int i = 0; i < Q; ++i) {
        const float top = larger(largest[i], tops[i]);
        below[i] = largest[i] - top;
        below[kMostQueries + i] = tops[i] - top;
        largest[i] = top;
    }
    Shares shares;
    _mm256_store_ps(shares.old_ones, exp2_wide(_mm256_load_ps(below)));
    for (int i = 0; i < Q; ++i) weight[i] = __builtin_fmaf(weight[i], shares.old_ones[i], sums[i] * shares.new_ones[i]);
    return shares;
}

template <int Q, Store S, bool Ahead, typename Number>
inline void weigh_columns(const float* p, int keys, const Number* values, int width, const Shares& shares, float* out) {
    __m256 c[Q][2];
    product<Q, Ahead>(p, kBlockKeys, values, 2 * width, keys, c);
    for (int q = 0; q < Q; ++q, out += width) {
        for (int w = 0; w < 2; ++w) {
            __m256 value = c[q][w];
            if constexpr (S == Store::Add) {
                value = _mm256_fmadd_ps(_mm256_loadu_ps(out + w * kHalf), _mm256_set1_ps(shares.old_ones[q]),
                                        _mm256_mul_ps(value, _mm256_set1_ps(shares.new_ones[q])));
            }
            _mm256_storeu_ps(out + w * kHalf, value);
        }
    }
}

template <int Q, bool Ahead, typename Number>
inline void score_keys(const float* q, const Number* keys, int head_dim, float* scores) {
    __m256 c[Q][2];
    product<Q, Ahead>(q, head_dim, keys, 2 * kBlockKeys, head_dim, c);
    for (int i = 0; i < Q; ++i, scores += kBlockKeys) {
        _mm256_store_ps(scores, c[i][0]);
        _mm256_store_ps(scores + kHalf, c[i][1]);
    }
}

template <int Q, Store S, typename Block>
void attend_some(const uint16_t* q, int ldq, const Block& block, int head_dim, const int* low, const int* high,
                 float* largest, float* weight, float* values) {
    float factors[Q * kMostHeadDim];
    alignas(32) float p[Q][kBlockKeys];
    float tops[Q], sums[Q];
    int keys = 0;  // that any of the queries sees; values past them have weights of zero, which change no sum
    for (int i = 0; i < Q; ++i) {
        keys = high[i] > keys ? high[i] : keys;
        for (int d = 0; d < head_dim; ++d) factors[i * head_dim + d] = float_of_bfloat(q[i * ldq + d]);
    }
    score_keys<Q, true>(factors, block.keys, head_dim, p[0]);
    for (int key = kColumns; key < kBlockKeys; key += kColumns) {
        if (key < keys) {
            score_keys<Q, false>(factors, block.keys + 2 * key, head_dim, p[0] + key);
        } else {
            for (int i = 0; i < Q; ++i) memset(p[i] + key, 0, sizeof(float) * kColumns);
        }
    }
    for (int i = 0; i < Q; ++i) wide_weights(block, p[i], low[i], high[i], tops + i, sums + i);
    Shares shares;
    if constexpr (S == Store::Add) {
        shares = add_weights<Q>(tops, sums, largest, weight);
    } else {
        for (int i = 0; i < Q; ++i) largest[i] = tops[i], weight[i] = sums[i];
    }
    const int width = padded(head_dim);
    weigh_columns<Q, S, true>(p[0], keys, block.values, width, shares, values);
    for (int d = kColumns; d < width; d += kColumns) {
        weigh_columns<Q, S, false>(p[0], keys, block.values + 2 * d, width, shares, values + d);
    }
}

template <Store S, typename Block>
constexpr AttendSome<Block> kAttendSome[] = {nullptr, attend_some<1, S, Block>, attend_some<2, S, Block>,
                                             attend_some<3, S, Block>, attend_some<kMostQueries, S, Block>};

template <typename Block>
inline EMPU_ATTEND(attend_block, Block) {
    attend_in_turn(store == Store::Set ? kAttendSome<Store::Set, Block> : kAttendSome<Store::Add, Block>, kMostQueries,
                   q, ldq, queries, block, head_dim, low, high, out);
}

}  // namespace

EMPU_ATTEND(avx2_attend, CacheBlock) { attend_block(q, ldq, queries, block, head_dim, low, high, out, store); }
EMPU_ATTEND(avx2_attend_small, SmallBlock) { attend_block(q, ldq, queries, block, head_dim, low, high, out, store); }

}  // namespace empu
