// What the machine can do, for benchmarks to hold the engine against.
#pragma once

#include <cstddef>

namespace empu {

// Bytes per second that `threads` threads together read from `bytes` of memory, best of `rounds`.
double read_bandwidth(size_t bytes, int threads, int rounds);

}  // namespace empu
