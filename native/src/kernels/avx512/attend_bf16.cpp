// attend.cpp with the products of AVX512-BF16.
#define EMPU_BF16 1
#include "kernels/avx512/attend.cpp"
