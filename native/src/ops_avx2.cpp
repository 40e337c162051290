#include "ops_portable.hpp"
#if defined(EMPU_AVX_VNNI)
#define EMPU_TABLE kAvxVnniOps
#define EMPU_NAME "avx-vnni"
#else
#define EMPU_TABLE kAvx2Ops
#define EMPU_NAME "avx2"
#endif

namespace empu {
extern const Ops EMPU_TABLE;
const Ops EMPU_TABLE = {EMPU_NAME, rms_norm, quantise, multiply, multiply_gated, gate, rotate, to_half, attend, merge, finish};
}  // namespace empu
