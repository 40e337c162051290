// Which tables this processor can run.
#include "kernels/ops.hpp"

#if defined(EMPU_X86)
#include <cpuid.h>

#include "kernels/amx/matmul.hpp"
#endif

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
extern const Ops kAmxOps;
#elif defined(EMPU_ARM)
extern const Ops kNeonOps;
#endif

namespace {
constexpr int kMostTables = 6;

#if defined(EMPU_X86)
// What older compilers do not know by name; with AVX2 the system keeps the registers that these use.
bool has_f16c() {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c >> 29 & 1);
}

bool has_avx_vnni() {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

// AMD's family 19h with AVX-512. What such a processor fetches by itself is better than what it is told far ahead.
bool is_zen_4() {
    constexpr unsigned kAmd = 0x68747541;  // "Auth"
    unsigned a, vendor, c, d;
    if (!__get_cpuid(0, &a, &vendor, &c, &d) || vendor != kAmd) return false;
    __get_cpuid(1, &a, &vendor, &c, &d);
    __builtin_cpu_init();
    return (a >> 8 & 15) + (a >> 20 & 255) == 0x19 && __builtin_cpu_supports("avx512f");
}
#endif

size_t ahead_for_one() {
#if defined(EMPU_X86)
    if (is_zen_4()) return 64;
#endif
    return 6 * 1024;
}
}  // namespace

Rows beginning_at(const Rows& rows, int first) {
    Rows later = rows;
    const size_t spans = size_t(first) * size_t(rows.spans());
    later.floats += size_t(first) * size_t(rows.stride);
    later.numbers += size_t(first) * size_t(rows.cols);
    later.scales += spans;
    later.sums += spans;
    later.totals += spans;
    later.tiled = nullptr;
    return later;
}

const size_t kAheadForOne = ahead_for_one();

int available_ops(const Ops** tables, int limit) {
    int count = 0;
    const auto add = [&](const Ops& ops) {
        if (count < limit) tables[count++] = &ops;
    };
#if defined(EMPU_X86)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vnni")) {
        if (__builtin_cpu_supports("avx512bf16")) {
            if (amx_allowed()) add(kAmxOps);
            add(kAvx512Bf16Ops);
        }
        add(kAvx512Ops);
    }
    if (avx2 && has_avx_vnni()) add(kAvxVnniOps);
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
    if (name == kScalarPairedOps.name) return kScalarPairedOps;
    throw Error("This processor cannot run the instruction set " + std::string(name) + ".");
}

const char* oracle_of(const Ops& ops) { return (ops.paired ? kScalarPairedOps : kScalarOps).name; }

}  // namespace empu
