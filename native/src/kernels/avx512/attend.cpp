#include "kernels/avx512/attend.hpp"

namespace empu {

namespace {

constexpr int kPrefetch = 4096;  // bytes; in memory, values follow keys, and the next head's keys follow the values

// C = A B for `Q` queries: A is (Q, depth) factors; B is (depth / 2, columns, 2) in the cache, its rows `ldb` elements
// apart, and its first 16 W columns are multiplied.

#if defined(EMPU_AMX_ORDER)

// Sums in the order of AMX tile registers: of each 16 pairs, the first elements and the second elements are summed
// separately; then both are added to the sum.
template <int Q, int W, bool Prefetch, typename Element>
inline __attribute__((always_inline)) void matmul(const Factor* a, size_t lda, const Element* b, size_t ldb, int depth,
                                                  __m512 (&c)[Q][W]) {
    constexpr int kColumns = W < 2 ? W : 2;  // more sums would not stay in registers
    for (int q = 0; q < Q; ++q) {
        for (int w = 0; w < W; ++w) c[q][w] = _mm512_setzero_ps();
    }
    for (int column = 0; column < W; column += kColumns) {
        for (int begin = 0; begin < depth; begin += 2 * kLanes) {
            const int end = depth - begin < 2 * kLanes ? depth : begin + 2 * kLanes;
            __m512 firsts[Q][kColumns], seconds[Q][kColumns];
#pragma GCC unroll 8
            for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 2
                for (int w = 0; w < kColumns; ++w) firsts[q][w] = seconds[q][w] = _mm512_setzero_ps();
            }
            const Element* rows = b + (size_t)(begin / 2) * ldb + 2 * column * kLanes;
            for (int d = begin; d < end; d += 2, rows += ldb) {
                Pairs row[kColumns];
#pragma GCC unroll 2
                for (int w = 0; w < kColumns; ++w) {
                    if constexpr (Prefetch) _mm_prefetch((const char*)(rows + 2 * w * kLanes) + kPrefetch, _MM_HINT_T0);
                    row[w] = load_pairs(rows + 2 * w * kLanes);
                }
#pragma GCC unroll 8
                for (int q = 0; q < Q; ++q) {
                    const __m512 first = _mm512_set1_ps(a[(size_t)q * lda + (size_t)d]);
                    const __m512 second = _mm512_set1_ps(a[(size_t)q * lda + (size_t)d + 1]);
#pragma GCC unroll 2
                    for (int w = 0; w < kColumns; ++w) {
                        firsts[q][w] = _mm512_fmadd_ps(row[w].first, first, firsts[q][w]);
                        seconds[q][w] = _mm512_fmadd_ps(row[w].second, second, seconds[q][w]);
                    }
                }
            }
#pragma GCC unroll 8
            for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 2
                for (int w = 0; w < kColumns; ++w) {
                    c[q][column + w] = _mm512_add_ps(c[q][column + w], _mm512_add_ps(firsts[q][w], seconds[q][w]));
                }
            }
        }
    }
}

#else

template <int Q, int W, bool Prefetch, typename Element>
inline __attribute__((always_inline)) void matmul(const Factor* a, size_t lda, const Element* b, size_t ldb, int depth,
                                                  __m512 (&c)[Q][W]) {
    for (int q = 0; q < Q; ++q) {
        for (int w = 0; w < W; ++w) c[q][w] = _mm512_setzero_ps();
    }
    for (int d = 0; d < depth; d += 2, a += 2, b += ldb) {
        Pairs row[W];
        if constexpr (Prefetch) {
            for (size_t offset = 0; offset < 2 * W * kLanes * sizeof(Element); offset += 64) {
                _mm_prefetch((const char*)b + kPrefetch + offset, _MM_HINT_T0);
            }
        }
#pragma GCC unroll 4
        for (int w = 0; w < W; ++w) row[w] = load_pairs(b + 2 * w * kLanes);
#pragma GCC unroll 8
        for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 4
            for (int w = 0; w < W; ++w) c[q][w] = add_pairs(c[q][w], row[w], a + (size_t)q * lda);
        }
    }
}

#endif

template <int Q, int W, Store S, typename Element>
inline void weigh_columns(const Factor* p, int keys, const Element* values, int width, const MergeFactors& factors,
                          float* out) {
    __m512 c[Q][W];
    matmul<Q, W, (W == 4)>(p, kBlockKeys, values, 2 * (size_t)width, keys, c);
    for (int q = 0; q < Q; ++q, out += width) {
        for (int w = 0; w < W; ++w) {
            __m512 value = c[q][w];
            if constexpr (S == Store::Add) {
                value = _mm512_fmadd_ps(_mm512_loadu_ps(out + w * kLanes), _mm512_set1_ps(factors.old[q]),
                                        _mm512_mul_ps(value, _mm512_set1_ps(factors.part[q])));
            }
            _mm512_storeu_ps(out + w * kLanes, value);
        }
    }
}

// The scores of the first 16 W keys of a block, zeros for others.
template <int Q, int W, typename Block>
inline void score_keys(const uint16_t* q, int ldq, const Block& block, int head_dim, __m512 (&scores)[Q][4]) {
    Factor buffer[kFactorBuffer];
    __m512 part_scores[Q][W];
    matmul<Q, W, true>(query_factors(q, ldq, Q, head_dim, buffer), query_stride(ldq, head_dim), block.keys,
                       2 * kBlockKeys, head_dim, part_scores);
    for (int i = 0; i < Q; ++i) {
        for (int w = 0; w < 4; ++w) scores[i][w] = w < W ? part_scores[i][w < W ? w : 0] : _mm512_setzero_ps();
    }
}

template <int Q, Store S, typename Block>
void attend_fixed(const uint16_t* q, int ldq, const Block& block, int head_dim, const int* low, const int* high,
                  float* max_score, float* weight_sum, float* values) {
    alignas(64) Factor p[Q][kBlockKeys];
    alignas(64) float block_max[kLanes], block_sums[kLanes];
    int keys = 0;  // visible to any query; values past them have weight zero, which changes no sum
    for (int i = 0; i < Q; ++i) keys = high[i] > keys ? high[i] : keys;
    {
        __m512 scores[Q][4];
        if (keys <= kBlockKeys / 2) {
            score_keys<Q, 2>(q, ldq, block, head_dim, scores);
        } else {
            score_keys<Q, 4>(q, ldq, block, head_dim, scores);
        }
        for (int i = 0; i < Q; ++i)
            block_sums[i] = softmax_scores(block, scores[i], low[i], high[i], p[i], block_max[i]);
    }
    MergeFactors factors;
    if constexpr (S == Store::Add) {
        factors = update_softmax(Q, block_max, block_sums, max_score, weight_sum);
    } else {
        for (int i = 0; i < Q; ++i) max_score[i] = block_max[i], weight_sum[i] = block_sums[i];
    }
    const int width = padded(head_dim);
    int d = 0;
    for (; d + 64 <= width; d += 64) {
        weigh_columns<Q, 4, S>(p[0], keys, block.values + 2 * d, width, factors, values + d);
    }
    for (; d < width; d += kLanes) weigh_columns<Q, 1, S>(p[0], keys, block.values + 2 * d, width, factors, values + d);
}

template <Store S, typename Block>
constexpr AttendFixed<Block> kAttendFixed[] = {
    nullptr,
    attend_fixed<1, S, Block>,
    attend_fixed<2, S, Block>,
    attend_fixed<3, S, Block>,
    attend_fixed<4, S, Block>,
    attend_fixed<5, S, Block>,
    attend_fixed<kMaxQueries, S, Block>,
};

template <typename Block>
inline EMPU_ATTEND(attend_block, Block) {
    attend_in_batches(store == Store::Set ? kAttendFixed<Store::Set, Block> : kAttendFixed<Store::Add, Block>,
                      kMaxQueries, q, ldq, queries, block, head_dim, low, high, out);
}

}  // namespace

#if defined(EMPU_AMX_ORDER)
#define EMPU_NAMED(name) avx512_amx_order_##name
#elif defined(EMPU_BF16)
#define EMPU_NAMED(name) avx512_bf16_##name
#else
#define EMPU_NAMED(name) avx512_##name
#endif

EMPU_ATTEND(EMPU_NAMED(attend), CacheBlockBf16) {
    attend_block(q, ldq, queries, block, head_dim, low, high, out, store);
}
#if !defined(EMPU_AMX_ORDER)
EMPU_ATTEND(EMPU_NAMED(attend_int8), CacheBlockInt8) {
    attend_block(q, ldq, queries, block, head_dim, low, high, out, store);
}
#endif

}  // namespace empu
