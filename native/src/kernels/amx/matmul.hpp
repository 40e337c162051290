// Products with AMX tile registers, on top of AVX-512, with the same bits.
#pragma once

#include "kernels/ops.hpp"

namespace empu {

// Return whether processor and system allow AMX. Asks the system for permission, once per process.
bool amx_available();

void amx_matmul(const TileRange& tiles, const Activations& activations, int tokens, float* out, size_t ld, Store store);
void amx_matmul_swiglu(const TileRange& gate, const PackedMatrix& up, const Activations& activations, int tokens,
                       float* out, size_t ld);
int64_t amx_int8_products(int rounds, int32_t& sum);

}  // namespace empu
