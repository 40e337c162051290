// Which tables this processor can run.
#include "ops.hpp"

#if defined(EMPU_ARM) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace empu {

#if defined(EMPU_X86)
extern const Ops kAvx2Ops;
extern const Ops kAvxVnniOps;
extern const Ops kAvx512Ops;
extern const Ops kAvx512Bf16Ops;
#elif defined(EMPU_ARM)
extern const Ops kNeonOps;
#endif

namespace {
constexpr int kMostTables = 5;
}

int available_ops(const Ops** tables, int limit) {
    int count = 0;
    const auto add = [&](const Ops& ops) {
        if (count < limit) tables[count++] = &ops;
    };
#if defined(EMPU_X86)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vnni")) {
        if (__builtin_cpu_supports("avx512bf16")) add(kAvx512Bf16Ops);
        add(kAvx512Ops);
    }
    if (avx2 && __builtin_cpu_supports("avxvnni")) add(kAvxVnniOps);
    if (avx2) add(kAvx2Ops);
#elif defined(EMPU_ARM) && defined(__linux__)
    if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) add(kNeonOps);
#elif defined(EMPU_ARM)
    add(kNeonOps);  // every such processor of Apple's has dot products
#endif
    add(kScalarOps);
    return count;
}

const Ops& choose_ops(std::string_view name) {
    const Ops* tables[kMostTables];
    const int count = available_ops(tables, kMostTables);
    if (name.empty()) return *tables[0];
    for (int i = 0; i < count; ++i) {
        if (name == tables[i]->name) return *tables[i];
    }
    throw Error("This processor cannot run the instruction set " + std::string(name) + ".");
}

}  // namespace empu
