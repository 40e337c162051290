// Chooses the kernel table for this processor.
#include <string>

#include "error.hpp"
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
constexpr int kMaxTables = 6;

#if defined(EMPU_X86)
// Features that older compilers do not know by name. With AVX2 the system saves the registers that they use.
bool has_f16c() {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c >> 29 & 1);
}

bool has_avx_vnni() {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

// AMD family 19h with AVX-512. Its hardware prefetcher does better than prefetching far ahead.
bool is_zen_4() {
    constexpr unsigned kAmd = 0x68747541;  // "Auth"
    unsigned a, vendor, c, d;
    if (!__get_cpuid(0, &a, &vendor, &c, &d) || vendor != kAmd) return false;
    __get_cpuid(1, &a, &vendor, &c, &d);
    __builtin_cpu_init();
    return (a >> 8 & 15) + (a >> 20 & 255) == 0x19 && __builtin_cpu_supports("avx512f");
}
#endif

size_t prefetch_one_token() {
#if defined(EMPU_X86)
    if (is_zen_4()) return 64;
#endif
    return 6 * 1024;
}
}  // namespace

Activations tokens_from(const Activations& activations, int first) {
    Activations rest = activations;
    const size_t scales = size_t(first) * size_t(activations.scales_per_token());
    rest.floats += size_t(first) * size_t(activations.stride);
    rest.quantised += size_t(first) * size_t(activations.cols);
    rest.scales += scales;
    rest.scaled_sums += scales;
    rest.int_sums += scales;
    rest.tile_scales = nullptr;
    return rest;
}

const size_t kPrefetchOneToken = prefetch_one_token();

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
            if (amx_available()) add(kAmxOps);
            add(kAvx512Bf16Ops);
        }
        add(kAvx512Ops);
    }
    if (avx2 && has_avx_vnni()) add(kAvxVnniOps);
    if (avx2) add(kAvx2Ops);
#elif defined(EMPU_ARM) && defined(__linux__)
    if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) add(kNeonOps);
#elif defined(EMPU_ARM)
    add(kNeonOps);  // all Apple processors have dot products
#endif
    add(kScalarOps);
    return count;
}

const Ops& choose_ops(std::string_view name) {
    const Ops* tables[kMaxTables];
    const int count = available_ops(tables, kMaxTables);
    if (name.empty()) return *tables[0];
    for (int i = 0; i < count; ++i) {
        if (name == tables[i]->name) return *tables[i];
    }
    if (name == kScalarAmxOrderOps.name) return kScalarAmxOrderOps;
    throw Error("This processor cannot run the instruction set " + std::string(name) + ".");
}

const char* oracle_of(const Ops& ops) { return (ops.amx_order ? kScalarAmxOrderOps : kScalarOps).name; }

}  // namespace empu
