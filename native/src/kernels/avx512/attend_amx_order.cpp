// attend.cpp with sums in the order of AMX, for so few queries that tile registers would be too large.
#define EMPU_AMX_ORDER 1
#include "kernels/avx512/attend.cpp"
