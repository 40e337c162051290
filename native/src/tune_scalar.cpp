#include "tune_verbs.hpp"

namespace empu {
extern const TuneOps kScalarTuneOps;
const TuneOps kScalarTuneOps = table("scalar");
}  // namespace empu
