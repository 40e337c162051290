// The same source with the sums in the order of AMX, for the few queries that tile registers would be too large for.
#define EMPU_PAIRED 1
#include "kernels/avx512/attend.cpp"
