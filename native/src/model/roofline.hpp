// Roofline of the machine: its memory bandwidth and arithmetic rate, which benchmarks compare the engine with.
#pragma once

#include <cstddef>

#include "kernels/ops.hpp"

namespace empu {

// Bytes per second that `threads` threads together read from `bytes` of memory; best of `rounds`.
double memory_bandwidth(size_t bytes, int threads, int rounds);

// Multiply-adds of int8 values per second in `threads` threads together; best of `rounds`.
double int8_throughput(const Ops& ops, int threads, int rounds);

}  // namespace empu
