// Kernels of training, written with GCC vector types that the compiler maps to each instruction set. Each tune_ops.cpp
// includes this file; see scalar/ops.hpp for why everything is in an anonymous namespace.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/tune_ops.hpp"

namespace empu {
namespace {

#if defined(__AVX512F__)
constexpr int kVector = 16, kTileRows = 6, kTileVectors = 4;  // 24 sums fit in the registers
#elif defined(__AVX2__)
constexpr int kVector = 8, kTileRows = 6, kTileVectors = 2;
#else
constexpr int kVector = 4, kTileRows = 4, kTileVectors = 2;
#endif
typedef float Vector __attribute__((vector_size(kVector * sizeof(float))));
typedef int32_t IntVector __attribute__((vector_size(kVector * sizeof(float))));

inline Vector load(const float* from) {
    Vector x;
    memcpy(&x, from, sizeof x);
    return x;
}
inline void store(float* to, Vector x) { memcpy(to, &x, sizeof x); }
inline Vector broadcast(float x) { return x - Vector{}; }
inline IntVector lane_indices() {
    IntVector indices{};
    for (int i = 0; i < kVector; ++i) indices[i] = i;
    return indices;
}

inline float add_lanes(Vector x) {
    float lanes[kVector];
    memcpy(lanes, &x, sizeof x);
    for (int half = kVector / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    }
    return lanes[0];
}

inline Vector select(IntVector mask, Vector yes, Vector no) {
    return (Vector)((mask & (IntVector)yes) | (~mask & (IntVector)no));
}

// e^x for x <= 0 (at least 2^-126), as 2^(x / ln 2): the whole part goes to the exponent, a polynomial gives the rest.
inline Vector exp_nonpositive(Vector x) {
    x *= broadcast(1.44269504f);
    x = select(x > broadcast(-126.0f), x, broadcast(-126.0f));
    const Vector whole = (x + broadcast(12582912.0f)) - broadcast(12582912.0f);
    const Vector f = x - whole;
    Vector p = broadcast(1.5403530e-4f);
    p = p * f + broadcast(1.3333558e-3f);
    p = p * f + broadcast(9.6181291e-3f);
    p = p * f + broadcast(5.5504109e-2f);
    p = p * f + broadcast(2.4022651e-1f);
    p = p * f + broadcast(6.9314718e-1f);
    p = p * f + broadcast(1.0f);
    const IntVector exponent = (__builtin_convertvector(whole, IntVector) + 127) << 23;
    return p * (Vector)exponent;
}

inline Vector sigmoid(Vector x) {
    const Vector small = exp_nonpositive(select(x > broadcast(0.0f), -x, x));
    return select(x > broadcast(0.0f), broadcast(1.0f), small) / (broadcast(1.0f) + small);
}

template <int M, int N>
inline __attribute__((always_inline)) void matmul_tile(const MatmulArgs& args, int i, int j) {
    Vector sums[M][N];
    const float* a = args.a + (size_t)i * args.a_row_stride;
    const float* b = args.b + j;
    float* c = args.c + (size_t)i * args.ldc + j;
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n)
            sums[m][n] = args.accumulate ? load(c + (size_t)m * args.ldc + n * kVector) : Vector{};
    }
    for (int k = 0; k < args.k; ++k, a += args.a_col_stride, b += args.ldb) {
        Vector row[N];
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) row[n] = load(b + n * kVector);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
            const Vector value = broadcast(a[(size_t)m * args.a_row_stride]);
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) sums[m][n] += value * row[n];
        }
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) store(c + (size_t)m * args.ldc + n * kVector, sums[m][n]);
    }
}

template <int N>
void matmul_columns(const MatmulArgs& args, int j) {
    constexpr int kRows = N == 1 ? 2 * kTileRows : kTileRows;
    int i = 0;
    for (; i + kRows <= args.m; i += kRows) matmul_tile<kRows, N>(args, i, j);
    for (; i + 2 <= args.m; i += 2) matmul_tile<2, N>(args, i, j);
    if (i < args.m) matmul_tile<1, N>(args, i, j);
}

void matmul(const MatmulArgs& args) {
    int j = 0;
    for (; j + kTileVectors * kVector <= args.n; j += kTileVectors * kVector) matmul_columns<kTileVectors>(args, j);
    for (; j < args.n; j += kVector) matmul_columns<1>(args, j);
}

float dot(const float* a, const float* b, int n) {
    Vector sum{};
    for (int i = 0; i < n; i += kVector) sum += load(a + i) * load(b + i);
    return add_lanes(sum);
}

void rms_norm_backward(const float* x, const float* weight, int n, float eps, const float* grad, float* grad_x) {
    Vector squares{}, dot_grad{};
    for (int i = 0; i < n; i += kVector) {
        const Vector v = load(x + i);
        squares += v * v;
        dot_grad += v * load(weight + i) * load(grad + i);
    }
    const float inverse_rms = 1.0f / __builtin_sqrtf(add_lanes(squares) / (float)n + eps);
    const Vector inverse = broadcast(inverse_rms),
                 correction = broadcast(inverse_rms * inverse_rms * inverse_rms * add_lanes(dot_grad) / (float)n);
    for (int i = 0; i < n; i += kVector) {
        store(grad_x + i, load(grad_x + i) + load(grad + i) * load(weight + i) * inverse - load(x + i) * correction);
    }
}

void swiglu(const float* gate, const float* up, int n, float* hidden) {
    for (int i = 0; i < n; i += kVector) {
        const Vector x = load(gate + i);
        store(hidden + i, x * sigmoid(x) * load(up + i));
    }
}

void swiglu_backward(float* gate, float* up, int n, const float* grad) {
    for (int i = 0; i < n; i += kVector) {
        const Vector x = load(gate + i), s = sigmoid(x), grad_out = load(grad + i);
        const Vector silu_slope = s * (broadcast(1.0f) + x * (broadcast(1.0f) - s));
        store(gate + i, grad_out * load(up + i) * silu_slope);
        store(up + i, grad_out * x * s);
    }
}

inline Vector swap_pairs(Vector v) {
#if defined(__clang__)
    Vector swapped;
    for (int i = 0; i < kVector; ++i) swapped[i] = v[i ^ 1];
    return swapped;
#else
    return __builtin_shuffle(v, lane_indices() ^ 1);
#endif
}

void rotate(float* x, const float* cosines, const float* sines, int n, bool inverse) {
    const Vector sign = broadcast(inverse ? -1.0f : 1.0f);
    for (int i = 0; i < n; i += kVector) {
        const Vector v = load(x + i);
        store(x + i, v * load(cosines + i) + swap_pairs(v) * load(sines + i) * sign);
    }
}

void softmax_from_log_sum(float* scores, int visible, int n, float log_sum) {
    for (int i = 0; i < n; i += kVector) {
        const Vector p = exp_nonpositive(load(scores + i) - broadcast(log_sum));
        store(scores + i, i + kVector <= visible ? p : select(lane_indices() < visible - i, p, Vector{}));
    }
}

float softmax(float* scores, int visible, int n) {
    float max = scores[0];
    int i = 0;
    if (visible >= kVector) {
        Vector lane_max = load(scores);
        for (; i + kVector <= visible; i += kVector) {
            const Vector v = load(scores + i);
            lane_max = select(v > lane_max, v, lane_max);
        }
        for (int lane = 0; lane < kVector; ++lane) max = lane_max[lane] > max ? lane_max[lane] : max;
    }
    for (; i < visible; ++i) max = scores[i] > max ? scores[i] : max;
    softmax_from_log_sum(scores, visible, n, max);
    Vector sum{};
    for (i = 0; i < n; i += kVector) sum += load(scores + i);
    const float total = add_lanes(sum);
    const Vector inverse = broadcast(1.0f / total);
    for (i = 0; i < n; i += kVector) store(scores + i, load(scores + i) * inverse);
    return max + __builtin_logf(total);
}

void softmax_backward(const float* weights, float* grad, int n, float mean, float factor) {
    for (int i = 0; i < n; i += kVector) {
        store(grad + i, load(weights + i) * (load(grad + i) - broadcast(mean)) * broadcast(factor));
    }
}

constexpr TuneOps table(const char* name) {
    return {name,   matmul,  rms_norm_backward,    swiglu,           swiglu_backward,
            rotate, softmax, softmax_from_log_sum, softmax_backward, dot};
}

}  // namespace
}  // namespace empu
