#include "kernels/tune_kernels.hpp"

namespace empu {
const TuneOps kScalarTuneOps = table("scalar");
}  // namespace empu
