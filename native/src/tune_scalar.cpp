#include "tune_verbs.hpp"

namespace empu {
const TuneOps kScalarTuneOps = table("scalar");
}  // namespace empu
