#include "tune_verbs.hpp"

namespace empu {
const TuneOps kAvx2TuneOps = table("avx2");
}  // namespace empu
