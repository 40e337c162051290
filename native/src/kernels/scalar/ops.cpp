#include "kernels/scalar/ops.hpp"

namespace empu {

namespace {

constexpr Ops table(const char* name, decltype(Ops::attend) attend, bool paired) {
    return {name,   rms_norm, quantise, multiply, multiply_gated, gate,         rotate, to_bfloat,
            attend, merge,    finish,   products, to_small,       attend_small, powers, &kScalarTuneOps,
            paired};
}

}  // namespace

const Ops kScalarOps = table("scalar", attend, false);
const Ops kScalarPairedOps = table("scalar-paired", paired_attend, true);

}  // namespace empu
