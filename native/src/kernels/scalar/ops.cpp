#include "kernels/scalar/ops.hpp"

namespace empu {

namespace {

constexpr Ops table(const char* name, decltype(Ops::attend) attend, bool amx_order) {
    return {name,
            rms_norm,
            quantise,
            matmul,
            matmul_swiglu,
            swiglu,
            rotate,
            to_bfloat16,
            attend,
            merge,
            normalise,
            int8_products,
            to_int8,
            attend_int8,
            softmax_numerators,
            layer_norm,
            gelu,
            &kScalarTuneOps,
            amx_order};
}

}  // namespace

const Ops kScalarOps = table("scalar", attend, false);
const Ops kScalarAmxOrderOps = table("scalar-amx-order", amx_order_attend, true);

}  // namespace empu
