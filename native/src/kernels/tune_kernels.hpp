// The verbs of tuning on vectors of floats, which the compiler maps to what each instruction set has. Included by one
// file for each of them; see ops_portable.hpp for why everything is in an anonymous namespace.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/tune_ops.hpp"

namespace empu {
namespace {

#if defined(__AVX512F__)
constexpr int kWide = 16, kRows = 6, kColumns = 4;  // 24 sums fit the registers
#elif defined(__AVX2__)
constexpr int kWide = 8, kRows = 6, kColumns = 2;
#else
constexpr int kWide = 4, kRows = 4, kColumns = 2;
#endif
typedef float Wide __attribute__((vector_size(kWide * sizeof(float))));
typedef int32_t WideInt __attribute__((vector_size(kWide * sizeof(float))));

inline Wide load(const float* at) {
    Wide x;
    memcpy(&x, at, sizeof x);
    return x;
}
inline void store(float* at, Wide x) { memcpy(at, &x, sizeof x); }
inline Wide all(float x) { return x - Wide{}; }
inline WideInt lanes() {
    WideInt numbers{};
    for (int i = 0; i < kWide; ++i) numbers[i] = i;
    return numbers;
}

inline float add(Wide x) {
    float lanes[kWide];
    memcpy(lanes, &x, sizeof x);
    for (int half = kWide / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    }
    return lanes[0];
}

inline Wide choose(WideInt where, Wide yes, Wide no) { return (Wide)((where & (WideInt)yes) | (~where & (WideInt)no)); }

// e^x for x <= 0 (clipped at 2^-126): 2^(x / ln 2), the whole part in the exponent, a polynomial for the rest.
inline Wide power(Wide x) {
    x *= all(1.44269504f);
    x = choose(x > all(-126.0f), x, all(-126.0f));
    const Wide whole = (x + all(12582912.0f)) - all(12582912.0f);
    const Wide f = x - whole;
    Wide p = all(1.5403530e-4f);
    p = p * f + all(1.3333558e-3f);
    p = p * f + all(9.6181291e-3f);
    p = p * f + all(5.5504109e-2f);
    p = p * f + all(2.4022651e-1f);
    p = p * f + all(6.9314718e-1f);
    p = p * f + all(1.0f);
    const WideInt exponent = (__builtin_convertvector(whole, WideInt) + 127) << 23;
    return p * (Wide)exponent;
}

inline Wide sigmoid(Wide x) {
    const Wide small = power(choose(x > all(0.0f), -x, x));
    return choose(x > all(0.0f), all(1.0f), small) / (all(1.0f) + small);
}

template <int M, int N>
inline __attribute__((always_inline)) void tile(const Product& of, int i, int j) {
    Wide sums[M][N];
    const float* a = of.a + (size_t)i * of.row;
    const float* b = of.b + j;
    float* c = of.c + (size_t)i * of.ldc + j;
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) sums[m][n] = of.add ? load(c + (size_t)m * of.ldc + n * kWide) : Wide{};
    }
    for (int k = 0; k < of.depth; ++k, a += of.column, b += of.ldb) {
        Wide row[N];
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) row[n] = load(b + n * kWide);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
            const Wide value = all(a[(size_t)m * of.row]);
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) sums[m][n] += value * row[n];
        }
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) store(c + (size_t)m * of.ldc + n * kWide, sums[m][n]);
    }
}

template <int N>
void rows_of(const Product& of, int j) {
    constexpr int many = N == 1 ? 2 * kRows : kRows;
    int i = 0;
    for (; i + many <= of.m; i += many) tile<many, N>(of, i, j);
    for (; i + 2 <= of.m; i += 2) tile<2, N>(of, i, j);
    if (i < of.m) tile<1, N>(of, i, j);
}

void product(const Product& of) {
    int j = 0;
    for (; j + kColumns * kWide <= of.n; j += kColumns * kWide) rows_of<kColumns>(of, j);
    for (; j < of.n; j += kWide) rows_of<1>(of, j);
}

float dot(const float* a, const float* b, int n) {
    Wide sum{};
    for (int i = 0; i < n; i += kWide) sum += load(a + i) * load(b + i);
    return add(sum);
}

void rms_norm_back(const float* x, const float* weight, int n, float eps, const float* g, float* dx) {
    Wide squares{}, along{};
    for (int i = 0; i < n; i += kWide) {
        const Wide v = load(x + i);
        squares += v * v;
        along += v * load(weight + i) * load(g + i);
    }
    const float scale = 1.0f / __builtin_sqrtf(add(squares) / (float)n + eps);
    const Wide inverse = all(scale), pull = all(scale * scale * scale * add(along) / (float)n);
    for (int i = 0; i < n; i += kWide) {
        store(dx + i, load(dx + i) + load(g + i) * load(weight + i) * inverse - load(x + i) * pull);
    }
}

void gate(const float* gate, const float* up, int n, float* hidden) {
    for (int i = 0; i < n; i += kWide) {
        const Wide x = load(gate + i);
        store(hidden + i, x * sigmoid(x) * load(up + i));
    }
}

void gate_back(float* gate, float* up, int n, const float* g) {
    for (int i = 0; i < n; i += kWide) {
        const Wide x = load(gate + i), s = sigmoid(x), back = load(g + i);
        const Wide slope = s * (all(1.0f) + x * (all(1.0f) - s));
        store(gate + i, back * load(up + i) * slope);
        store(up + i, back * x * s);
    }
}

inline Wide with_swapped_pairs(Wide v) {
#if defined(__clang__)
    Wide swapped;
    for (int i = 0; i < kWide; ++i) swapped[i] = v[i ^ 1];
    return swapped;
#else
    return __builtin_shuffle(v, lanes() ^ 1);
#endif
}

void rotate(float* x, const float* cosines, const float* sines, int n, bool back) {
    const Wide sign = all(back ? -1.0f : 1.0f);
    for (int i = 0; i < n; i += kWide) {
        const Wide v = load(x + i);
        store(x + i, v * load(cosines + i) + with_swapped_pairs(v) * load(sines + i) * sign);
    }
}

void weights(float* scores, int seen, int n, float log_sum) {
    for (int i = 0; i < n; i += kWide) {
        const Wide p = power(load(scores + i) - all(log_sum));
        store(scores + i, i + kWide <= seen ? p : choose(lanes() < seen - i, p, Wide{}));
    }
}

float softmax(float* scores, int seen, int n) {
    float largest = scores[0];
    int i = 0;
    if (seen >= kWide) {
        Wide most = load(scores);
        for (; i + kWide <= seen; i += kWide) {
            const Wide v = load(scores + i);
            most = choose(v > most, v, most);
        }
        for (int lane = 0; lane < kWide; ++lane) largest = most[lane] > largest ? most[lane] : largest;
    }
    for (; i < seen; ++i) largest = scores[i] > largest ? scores[i] : largest;
    weights(scores, seen, n, largest);
    Wide sum{};
    for (i = 0; i < n; i += kWide) sum += load(scores + i);
    const float total = add(sum);
    const Wide inverse = all(1.0f / total);
    for (i = 0; i < n; i += kWide) store(scores + i, load(scores + i) * inverse);
    return largest + __builtin_logf(total);
}

void softmax_back(const float* weights, float* g, int n, float mean, float factor) {
    for (int i = 0; i < n; i += kWide) {
        store(g + i, load(weights + i) * (load(g + i) - all(mean)) * all(factor));
    }
}

constexpr TuneOps table(const char* name) {
    return {name, product, rms_norm_back, gate, gate_back, rotate, softmax, weights, softmax_back, dot};
}

}  // namespace
}  // namespace empu
