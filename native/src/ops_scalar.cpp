#include "ops_portable.hpp"

namespace empu {

const Ops kScalarOps = {"scalar", rms_norm, quantise, multiply, multiply_gated, gate,         rotate, to_bfloat,
                        attend,   merge,    finish,   products, to_small,       attend_small, powers, &kScalarTuneOps};

}  // namespace empu
