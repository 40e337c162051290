// Kernel tables for AVX-512 with VNNI, without and with AVX512-BF16, and with AMX.
#include "kernels/amx/matmul.hpp"
#include "kernels/attend_x86.hpp"
#include "kernels/avx512/matmul.hpp"

namespace empu {
extern const Ops kAvx512Ops;
extern const Ops kAvx512Bf16Ops;
extern const Ops kAmxOps;

namespace {

void simd_rms_norm(const float* x, const float* weight, int n, float eps, float* out) {
    __m512 squares = _mm512_setzero_ps();
    for (int i = 0; i < padded(n); i += kLanes) {
        const __m512 v = _mm512_loadu_ps(x + i);
        squares = _mm512_fmadd_ps(v, v, squares);
    }
    const __m512 scale = _mm512_set1_ps(1.0f / __builtin_sqrtf(add_lanes(squares) / (float)n + eps));
    for (int i = 0; i < padded(n); i += kLanes) {
        const __m512 v = _mm512_mul_ps(_mm512_loadu_ps(x + i), scale);
        _mm512_storeu_ps(out + i, _mm512_mul_ps(v, _mm512_loadu_ps(weight + i)));
    }
}

void simd_swiglu(float* gate, const float* up, int n) {
    for (int i = 0; i < n; i += kLanes) {
        _mm512_storeu_ps(gate + i, _mm512_mul_ps(simd_silu(_mm512_loadu_ps(gate + i)), _mm512_loadu_ps(up + i)));
    }
}

void simd_merge(const PartialAttention& sum, const PartialAttention& part, int head_dim) {
    if (*part.weight_sum == 0) return;
    const bool first = *sum.weight_sum == 0;
    const float max_score = first ? *part.max_score : larger(*sum.max_score, *part.max_score);
    const float old_factor = first ? 0.0f : scalar_exp2(*sum.max_score - max_score);
    const float part_factor = scalar_exp2(*part.max_score - max_score);
    *sum.max_score = max_score;
    *sum.weight_sum = __builtin_fmaf(first ? 0.0f : *sum.weight_sum, old_factor, *part.weight_sum * part_factor);
    const __m512 factor = _mm512_set1_ps(part_factor);
    for (int d = 0; d < padded(head_dim); d += kLanes) {
        const __m512 old = first ? _mm512_setzero_ps() : _mm512_loadu_ps(sum.values + d);
        const __m512 added = _mm512_mul_ps(_mm512_loadu_ps(part.values + d), factor);
        _mm512_storeu_ps(sum.values + d, _mm512_fmadd_ps(old, _mm512_set1_ps(old_factor), added));
    }
}

void simd_to_bfloat16(const float* x, int n, uint16_t* out) {
    const __m512 max = _mm512_set1_ps(0x1p50f), min = _mm512_set1_ps(-0x1p50f);
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        const __m512 v = _mm512_max_ps(_mm512_min_ps(_mm512_loadu_ps(x + i), max), min);
        const __mmask16 nonzero = _mm512_cmp_ps_mask(_mm512_abs_ps(v), _mm512_set1_ps(0x1p-50f), _CMP_NLT_UQ);
        const __m512i bits = _mm512_castps_si512(round_to_bfloat16(v));
        _mm256_storeu_si256((__m256i*)(out + i), _mm512_maskz_cvtepi32_epi16(nonzero, _mm512_srli_epi32(bits, 16)));
    }
    to_bfloat16(x + i, n - i, out + i);
}

float simd_softmax_numerators(const float* x, int n, float max, float factor, float* out) {
    __m512 sum = _mm512_setzero_ps();
    for (int i = 0; i < n; i += kLanes) {
        const __m512 below = _mm512_sub_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(max));
        const __m512 exponent = _mm512_mul_ps(below, _mm512_set1_ps(factor));
        const __mmask16 nonzero = _mm512_cmp_ps_mask(exponent, _mm512_set1_ps(kMinNumeratorExponent), _CMP_GE_OQ);
        const __m512 power = _mm512_maskz_mov_ps(nonzero, simd_exp2(exponent));
        _mm512_storeu_ps(out + i, power);
        sum = _mm512_add_ps(sum, power);
    }
    return add_lanes(sum);
}

void simd_layer_norm(float* x, const float* bias, const float* weight, const float* shift, int n, float eps) {
    __m512 sums = _mm512_setzero_ps(), squares = sums;
    for (int i = 0; i < n; i += kLanes) {
        const __m512 v = _mm512_add_ps(_mm512_loadu_ps(x + i), _mm512_loadu_ps(bias + i));
        _mm512_storeu_ps(x + i, v);
        sums = _mm512_add_ps(sums, v);
    }
    const __m512 mean = _mm512_set1_ps(add_lanes(sums) / (float)n);
    for (int i = 0; i < n; i += kLanes) {
        const __m512 centred = _mm512_sub_ps(_mm512_loadu_ps(x + i), mean);
        squares = _mm512_fmadd_ps(centred, centred, squares);
    }
    const __m512 scale = _mm512_set1_ps(1.0f / __builtin_sqrtf(add_lanes(squares) / (float)n + eps));
    for (int i = 0; i < n; i += kLanes) {
        const __m512 v = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + i), mean), scale);
        _mm512_storeu_ps(x + i, _mm512_fmadd_ps(v, _mm512_loadu_ps(weight + i), _mm512_loadu_ps(shift + i)));
    }
}

void simd_gelu(float* x, const float* bias, int n) {
    for (int i = 0; i < n; i += kLanes) {
        _mm512_storeu_ps(x + i, simd_gelu(_mm512_add_ps(_mm512_loadu_ps(x + i), _mm512_loadu_ps(bias + i))));
    }
}

int64_t simd_int8_products(int rounds, int32_t& sum) {
    constexpr int kSums = 16;
    const __m512i a = _mm512_set1_epi8(15), b = _mm512_set1_epi8(-3);
    __m512i sums[kSums] = {};
    for (int round = 0; round < rounds; ++round) {
#pragma GCC unroll 16  // without it the sums would be in memory
        for (int i = 0; i < kSums; ++i) {
            sums[i] = _mm512_dpbusd_epi32(sums[i], a, b);
            asm volatile("" : "+v"(sums[i]));  // keep the sums separate: they start equal
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < kSums; ++i) sum += _mm512_cvtsi512_si32(sums[i]);
    return int64_t(rounds) * kSums * 64;
}

constexpr Ops table(const char* name, decltype(Ops::attend) attend, decltype(Ops::attend_int8) attend_int8) {
    return {name,           simd_rms_norm,      simd_quantise,
            simd_matmul,    simd_matmul_swiglu, simd_swiglu,
            rotate,         simd_to_bfloat16,   attend,
            simd_merge,     normalise,          simd_int8_products,
            to_int8,        attend_int8,        simd_softmax_numerators,
            simd_layer_norm, simd_gelu,         &kAvx512TuneOps};
}

constexpr Ops kWithoutBf16 = table("avx512", avx512_attend, avx512_attend_int8);
constexpr Ops kWithBf16 = table("avx512-bf16", avx512_bf16_attend, avx512_bf16_attend_int8);

constexpr Ops with_amx(Ops ops) {
    ops.name = "amx";
    ops.amx_order = true;
    ops.matmul = amx_matmul;
    ops.matmul_swiglu = amx_matmul_swiglu;
    ops.int8_products = amx_int8_products;
    ops.attend = amx_attend;
    return ops;
}

}  // namespace

// Initialised at compile time: initialisers of this file would use AVX-512 and crash other processors when loaded.
constinit const Ops kAvx512Ops = kWithoutBf16;
constinit const Ops kAvx512Bf16Ops = kWithBf16;
constinit const Ops kAmxOps = with_amx(kWithBf16);

}  // namespace empu
