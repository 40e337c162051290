#include "tune_verbs.hpp"

namespace empu {
extern const TuneOps kAvx512TuneOps;
const TuneOps kAvx512TuneOps = table("avx512");
}  // namespace empu
