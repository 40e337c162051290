#include "tune_verbs.hpp"

namespace empu {
extern const TuneOps kAvx2TuneOps;
const TuneOps kAvx2TuneOps = table("avx2");
}  // namespace empu
