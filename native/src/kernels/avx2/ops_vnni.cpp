// ops.cpp with the dot product of AVX-VNNI.
#define EMPU_AVX_VNNI 1
#include "kernels/avx2/ops.cpp"
