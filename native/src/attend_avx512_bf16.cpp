// The same source with the products of AVX512-BF16.
#define EMPU_BF16 1
#include "attend_avx512.cpp"
