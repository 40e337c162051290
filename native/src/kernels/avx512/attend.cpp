#include "kernels/avx512/attend.hpp"

namespace empu {

namespace {

// C = A B for `Q` queries: A (Q, depth) factors, B (depth / 2, columns, 2) numbers of the cache, of which W times 16
// columns are taken; rows of B are `ldb` numbers apart.
constexpr int kCacheAhead = 4096;  // bytes: values follow keys in memory, and the next head's keys the values

#if defined(EMPU_PAIRED)

// As the tile registers of AMX do it: the first ones of 16 pairs are summed for themselves, the second ones likewise,
// and then both are added to the sum.
template <int Q, int W, bool Ahead, typename Number>
inline __attribute__((always_inline)) void product(const Factor* a, size_t lda, const Number* b, size_t ldb, int depth,
                                                   __m512 (&c)[Q][W]) {
    constexpr int kColumns = W < 2 ? W : 2;  // more sums do not stay in registers
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
            const Number* at = b + (size_t)(begin / 2) * ldb + 2 * column * kLanes;
            for (int d = begin; d < end; d += 2, at += ldb) {
                Pairs row[kColumns];
#pragma GCC unroll 2
                for (int w = 0; w < kColumns; ++w) {
                    if constexpr (Ahead) _mm_prefetch((const char*)(at + 2 * w * kLanes) + kCacheAhead, _MM_HINT_T0);
                    row[w] = pairs(at + 2 * w * kLanes);
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

template <int Q, int W, bool Ahead, typename Number>
inline __attribute__((always_inline)) void product(const Factor* a, size_t lda, const Number* b, size_t ldb, int depth,
                                                   __m512 (&c)[Q][W]) {
    for (int q = 0; q < Q; ++q) {
        for (int w = 0; w < W; ++w) c[q][w] = _mm512_setzero_ps();
    }
    for (int d = 0; d < depth; d += 2, a += 2, b += ldb) {
        Pairs row[W];
        if constexpr (Ahead) {
            for (size_t at = 0; at < 2 * W * kLanes * sizeof(Number); at += 64) {
                _mm_prefetch((const char*)b + kCacheAhead + at, _MM_HINT_T0);
            }
        }
#pragma GCC unroll 4
        for (int w = 0; w < W; ++w) row[w] = pairs(b + 2 * w * kLanes);
#pragma GCC unroll 8
        for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 4
            for (int w = 0; w < W; ++w) c[q][w] = add_pairs(c[q][w], row[w], a + (size_t)q * lda);
        }
    }
}

#endif

template <int Q, int W, Store S, typename Number>
inline void weigh_columns(const Factor* p, int keys, const Number* values, int width, const Shares& shares,
                          float* out) {
    __m512 c[Q][W];
    product<Q, W, (W == 4)>(p, kBlockKeys, values, 2 * (size_t)width, keys, c);
    for (int q = 0; q < Q; ++q, out += width) {
        for (int w = 0; w < W; ++w) {
            __m512 value = c[q][w];
            if constexpr (S == Store::Add) {
                value = _mm512_fmadd_ps(_mm512_loadu_ps(out + w * kLanes), _mm512_set1_ps(shares.old_ones[q]),
                                        _mm512_mul_ps(value, _mm512_set1_ps(shares.new_ones[q])));
            }
            _mm512_storeu_ps(out + w * kLanes, value);
        }
    }
}

// The scores of the first 16 W keys of a block, zeros for others.
template <int Q, int W, typename Block>
inline void score_keys(const uint16_t* q, int ldq, const Block& block, int head_dim, __m512 (&scores)[Q][4]) {
    Factor room[kFactorRoom];
    __m512 some[Q][W];
    product<Q, W, true>(factors_of(q, ldq, Q, head_dim, room), factor_stride(ldq, head_dim), block.keys, 2 * kBlockKeys,
                        head_dim, some);
    for (int i = 0; i < Q; ++i) {
        for (int w = 0; w < 4; ++w) scores[i][w] = w < W ? some[i][w < W ? w : 0] : _mm512_setzero_ps();
    }
}

template <int Q, Store S, typename Block>
void attend_some(const uint16_t* q, int ldq, const Block& block, int head_dim, const int* low, const int* high,
                 float* largest, float* weight, float* values) {
    alignas(64) Factor p[Q][kBlockKeys];
    alignas(64) float tops[kLanes], sums[kLanes];
    int keys = 0;  // that any of the queries sees; values past them have weights of zero, which change no sum
    for (int i = 0; i < Q; ++i) keys = high[i] > keys ? high[i] : keys;
    {
        __m512 scores[Q][4];
        if (keys <= kBlockKeys / 2) {
            score_keys<Q, 2>(q, ldq, block, head_dim, scores);
        } else {
            score_keys<Q, 4>(q, ldq, block, head_dim, scores);
        }
        for (int i = 0; i < Q; ++i) sums[i] = weigh_scores(block, scores[i], low[i], high[i], p[i], tops[i]);
    }
    Shares shares;
    if constexpr (S == Store::Add) {
        shares = add_weights(Q, tops, sums, largest, weight);
    } else {
        for (int i = 0; i < Q; ++i) largest[i] = tops[i], weight[i] = sums[i];
    }
    const int width = padded(head_dim);
    int d = 0;
    for (; d + 64 <= width; d += 64) {
        weigh_columns<Q, 4, S>(p[0], keys, block.values + 2 * d, width, shares, values + d);
    }
    for (; d < width; d += kLanes) weigh_columns<Q, 1, S>(p[0], keys, block.values + 2 * d, width, shares, values + d);
}

template <Store S, typename Block>
constexpr AttendSome<Block> kAttendSome[] = {
    nullptr,
    attend_some<1, S, Block>,
    attend_some<2, S, Block>,
    attend_some<3, S, Block>,
    attend_some<4, S, Block>,
    attend_some<5, S, Block>,
    attend_some<kMostQueries, S, Block>,
};

template <typename Block>
inline EMPU_ATTEND(attend_block, Block) {
    attend_in_turn(store == Store::Set ? kAttendSome<Store::Set, Block> : kAttendSome<Store::Add, Block>, kMostQueries,
                   q, ldq, queries, block, head_dim, low, high, out);
}

}  // namespace

#if defined(EMPU_PAIRED)
#define EMPU_NAMED(name) avx512_paired_##name
#elif defined(EMPU_BF16)
#define EMPU_NAMED(name) avx512_bf16_##name
#else
#define EMPU_NAMED(name) avx512_##name
#endif

EMPU_ATTEND(EMPU_NAMED(attend), CacheBlock) { attend_block(q, ldq, queries, block, head_dim, low, high, out, store); }
#if !defined(EMPU_PAIRED)
EMPU_ATTEND(EMPU_NAMED(attend_small), SmallBlock) {
    attend_block(q, ldq, queries, block, head_dim, low, high, out, store);
}
#endif

}  // namespace empu
