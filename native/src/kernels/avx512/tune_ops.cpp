#include "kernels/tune_kernels.hpp"

namespace empu {
const TuneOps kAvx512TuneOps = table("avx512");
}  // namespace empu
