#include "tune_verbs.hpp"

namespace empu {
const TuneOps kAvx512TuneOps = table("avx512");
}  // namespace empu
