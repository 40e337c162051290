// Products with the tile registers of AMX, on top of AVX-512; the bits are the same.
#pragma once

#include "kernels/ops.hpp"

namespace empu {

// Whether processor and system have them; asks the system for their use, once for the process.
bool amx_allowed();

void amx_multiply(const Tiles& tiles, const Rows& rows, int tokens, float* out, size_t ld, Store store);
void amx_multiply_gated(const Tiles& gate, const Matrix& up, const Rows& rows, int tokens, float* out, size_t ld);
int64_t amx_products(int rounds, int32_t& sum);

}  // namespace empu
