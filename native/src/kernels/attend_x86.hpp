// Attention kernels for x86. AVX-512 is compiled three times: with the products of bfloat16 pairs (AVX512-BF16), with
// two float32 products in the same order, and with float32 products in the order of AMX.
#pragma once

#include "kernels/scalar/ops.hpp"

namespace empu {

#define EMPU_ATTEND(name, Block)                                                                         \
    void name(const uint16_t* q, int ldq, int queries, const Block& block, int head_dim, const int* low, \
              const int* high, const PartialAttention& out, Store store)

namespace {

// Attention of a fixed number of queries: q, ldq, block, head_dim, low, high; then the outputs max_score, weight_sum
// and values.
template <typename Block>
using AttendFixed = void (*)(const uint16_t*, int, const Block&, int, const int*, const int*, float*, float*, float*);

// All queries, at most `max` at a time; kernels[n] takes n of them.
template <typename Block>
inline void attend_in_batches(const AttendFixed<Block>* kernels, int max, const uint16_t* q, int ldq, int queries,
                              const Block& block, int head_dim, const int* low, const int* high,
                              const PartialAttention& out) {
    for (int i = 0; i < queries;) {
        const int count = queries - i < max ? queries - i : max;
        kernels[count](q + (size_t)i * (size_t)ldq, ldq, block, head_dim, low + i, high + i, out.max_score + i,
                       out.weight_sum + i, out.values + (size_t)i * (size_t)padded(head_dim));
        i += count;
    }
}

}  // namespace

EMPU_ATTEND(avx2_attend, CacheBlockBf16);
EMPU_ATTEND(avx2_attend_int8, CacheBlockInt8);
EMPU_ATTEND(avx512_attend, CacheBlockBf16);
EMPU_ATTEND(avx512_attend_int8, CacheBlockInt8);
EMPU_ATTEND(avx512_bf16_attend, CacheBlockBf16);
EMPU_ATTEND(avx512_bf16_attend_int8, CacheBlockInt8);
EMPU_ATTEND(avx512_amx_order_attend, CacheBlockBf16);
EMPU_ATTEND(amx_attend, CacheBlockBf16);

}  // namespace empu
