// Attention with AVX2, and with AVX-512 compiled twice: with products of bfloat16 pairs where the processor has them,
// and with two float32 products in the same order.
#pragma once

#include "kernels/scalar/ops.hpp"

namespace empu {

#define EMPU_ATTEND(name, Block)                                                                         \
    void name(const uint16_t* q, int ldq, int queries, const Block& block, int head_dim, const int* low, \
              const int* high, const Partial& out, Store store)

namespace {

// Attention of a fixed number of queries: q, ldq, block, head_dim, low, high, then where largest, weight and values go.
template <typename Block>
using AttendSome = void (*)(const uint16_t*, int, const Block&, int, const int*, const int*, float*, float*, float*);

// All queries, `most` at a time; some[n] takes n of them.
template <typename Block>
inline void attend_in_turn(const AttendSome<Block>* some, int most, const uint16_t* q, int ldq, int queries,
                           const Block& block, int head_dim, const int* low, const int* high, const Partial& out) {
    for (int i = 0; i < queries;) {
        const int count = queries - i < most ? queries - i : most;
        some[count](q + (size_t)i * (size_t)ldq, ldq, block, head_dim, low + i, high + i, out.largest + i,
                    out.weight + i, out.values + (size_t)i * (size_t)padded(head_dim));
        i += count;
    }
}

}  // namespace

EMPU_ATTEND(avx2_attend, CacheBlock);
EMPU_ATTEND(avx2_attend_small, SmallBlock);
EMPU_ATTEND(avx512_attend, CacheBlock);
EMPU_ATTEND(avx512_attend_small, SmallBlock);
EMPU_ATTEND(avx512_bf16_attend, CacheBlock);
EMPU_ATTEND(avx512_bf16_attend_small, SmallBlock);
EMPU_ATTEND(avx512_paired_attend, CacheBlock);
EMPU_ATTEND(amx_attend, CacheBlock);

}  // namespace empu
