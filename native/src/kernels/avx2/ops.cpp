// Kernel table for AVX2, or for AVX-VNNI where EMPU_AVX_VNNI is defined. Kernels not defined in this folder are the
// scalar ones, which the compiler vectorises.
#include "kernels/attend_x86.hpp"
#include "kernels/avx2/matmul.hpp"

#if defined(EMPU_AVX_VNNI)
#define EMPU_TABLE kAvxVnniOps
#define EMPU_NAME "avx-vnni"
#else
#define EMPU_TABLE kAvx2Ops
#define EMPU_NAME "avx2"
#endif

namespace empu {
extern const Ops EMPU_TABLE;

namespace {

void simd_rms_norm(const float* x, const float* weight, int n, float eps, float* out) {
    __m256 low = _mm256_setzero_ps(), high = low;
    for (int i = 0; i < padded(n); i += kLanes) {
        const __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + i + kVector);
        low = _mm256_fmadd_ps(a, a, low);
        high = _mm256_fmadd_ps(b, b, high);
    }
    const __m256 scale = _mm256_set1_ps(1.0f / __builtin_sqrtf(add_lanes(low, high) / (float)n + eps));
    for (int i = 0; i < padded(n); i += kVector) {
        const __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + i), scale);
        _mm256_storeu_ps(out + i, _mm256_mul_ps(v, _mm256_loadu_ps(weight + i)));
    }
}

void simd_layer_norm(float* x, const float* bias, const float* weight, const float* shift, int n, float eps) {
    __m256 sums[] = {_mm256_setzero_ps(), _mm256_setzero_ps()}, squares[] = {sums[0], sums[0]};
    for (int i = 0; i < n; i += kLanes) {
        for (int half = 0; half < 2; ++half) {
            float* at = x + i + kVector * half;
            const __m256 v = _mm256_add_ps(_mm256_loadu_ps(at), _mm256_loadu_ps(bias + i + kVector * half));
            _mm256_storeu_ps(at, v);
            sums[half] = _mm256_add_ps(sums[half], v);
        }
    }
    const __m256 mean = _mm256_set1_ps(add_lanes(sums[0], sums[1]) / (float)n);
    for (int i = 0; i < n; i += kLanes) {
        for (int half = 0; half < 2; ++half) {
            const __m256 centred = _mm256_sub_ps(_mm256_loadu_ps(x + i + kVector * half), mean);
            squares[half] = _mm256_fmadd_ps(centred, centred, squares[half]);
        }
    }
    const float variance = add_lanes(squares[0], squares[1]) / (float)n;
    const __m256 scale = _mm256_set1_ps(1.0f / __builtin_sqrtf(variance + eps));
    for (int i = 0; i < n; i += kVector) {
        const __m256 v = _mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(x + i), mean), scale);
        _mm256_storeu_ps(x + i, _mm256_fmadd_ps(v, _mm256_loadu_ps(weight + i), _mm256_loadu_ps(shift + i)));
    }
}

void simd_gelu(float* x, const float* bias, int n) {
    for (int i = 0; i < n; i += kVector) {
        _mm256_storeu_ps(x + i, simd_gelu(_mm256_add_ps(_mm256_loadu_ps(x + i), _mm256_loadu_ps(bias + i))));
    }
}

float simd_softmax_numerators(const float* x, int n, float max, float factor, float* out) {
    __m256 sums[] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (int i = 0; i < n; i += kLanes) {
        for (int half = 0; half < 2; ++half) {
            const __m256 below = _mm256_sub_ps(_mm256_loadu_ps(x + i + kVector * half), _mm256_set1_ps(max));
            const __m256 exponent = _mm256_mul_ps(below, _mm256_set1_ps(factor));
            const __m256 nonzero = _mm256_cmp_ps(exponent, _mm256_set1_ps(kMinNumeratorExponent), _CMP_GE_OQ);
            const __m256 power = _mm256_and_ps(nonzero, simd_exp2(exponent));
            _mm256_storeu_ps(out + i + kVector * half, power);
            sums[half] = _mm256_add_ps(sums[half], power);
        }
    }
    return add_lanes(sums[0], sums[1]);
}

int64_t simd_int8_products(int rounds, int32_t& sum) {
    constexpr int kSums = 8;
    __m256i a = _mm256_set1_epi8(15);
    const __m256i b = _mm256_set1_epi8(-3);
    __m256i sums[kSums] = {};
    for (int round = 0; round < rounds; ++round) {
#pragma GCC unroll 8  // without it the sums would be in memory
        for (int i = 0; i < kSums; ++i) {
            sums[i] = add_products(sums[i], a, b);
            asm volatile("" : "+x"(sums[i]), "+x"(a));  // keep the sums separate and inside the loop
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kSums; ++i) sum += _mm256_extract_epi32(sums[i], 0);
    return int64_t(rounds) * kSums * 32;
}

}  // namespace

const Ops EMPU_TABLE = {EMPU_NAME,    simd_rms_norm,      simd_quantise,
                        simd_matmul,  simd_matmul_swiglu, simd_swiglu,
                        rotate,       to_bfloat16,        avx2_attend,
                        merge,        normalise,          simd_int8_products,
                        to_int8,      avx2_attend_int8,   simd_softmax_numerators,
                        simd_layer_norm, simd_gelu,         &kAvx2TuneOps};

}  // namespace empu
