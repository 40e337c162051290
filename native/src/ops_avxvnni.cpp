// The same source with the dot product of AVX-VNNI.
#define EMPU_AVX_VNNI 1
#include "ops_avx2.cpp"
