#include "ops_portable.hpp"

namespace empu {
extern const Ops kAvx512Ops;
const Ops kAvx512Ops = {"avx512", rms_norm, quantise, multiply, multiply_gated, gate, rotate, to_half, attend, merge, finish};
}  // namespace empu
