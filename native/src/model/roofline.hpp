// What the machine can do, for benchmarks to hold the engine against.
#pragma once

#include <cstddef>

#include "kernels/ops.hpp"

namespace empu {

// Bytes per second that `threads` threads together read from `bytes` of memory, best of `rounds`.
double read_bandwidth(size_t bytes, int threads, int rounds);

// Products of 8-bit numbers, each with its addition, per second in `threads` threads together, best of `rounds`.
double product_rate(const Ops& ops, int threads, int rounds);

}  // namespace empu
