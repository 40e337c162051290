// Attention with AVX2, and with AVX-512 compiled twice: with products of bfloat16 pairs where the processor has them,
// and with two float32 products in the same order.
#pragma once

#include "ops.hpp"

namespace empu {

#define EMPU_ATTEND(name, Block)                                                                         \
    void name(const uint16_t* q, int ldq, int queries, const Block& block, int head_dim, const int* low, \
              const int* high, const Partial& out, Store store)

EMPU_ATTEND(avx2_attend, CacheBlock);
EMPU_ATTEND(avx2_attend_small, SmallBlock);
EMPU_ATTEND(avx512_attend, CacheBlock);
EMPU_ATTEND(avx512_attend_small, SmallBlock);
EMPU_ATTEND(avx512_bf16_attend, CacheBlock);
EMPU_ATTEND(avx512_bf16_attend_small, SmallBlock);

}  // namespace empu
