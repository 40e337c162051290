#include "kernels/tune_kernels.hpp"

namespace empu {
const TuneOps kAvx2TuneOps = table("avx2");
}  // namespace empu
