// TuneOps: kernels that training needs beyond those of inference: float32 products, and gradients. Sums run in a fixed
// order on one machine; another instruction set may round differently.
#pragma once

#include <cstddef>

namespace empu {

// C (m, n) = A B, or C += A B with `accumulate`. Element (i, j) of A is at a[i * a_row_stride + j * a_col_stride], so A
// may be transposed; B (k, n) and C are row-major. n is a multiple of 16.
struct MatmulArgs {
    int m, n, k;
    const float* a;
    size_t a_row_stride, a_col_stride;
    const float* b;
    size_t ldb;
    float* c;
    size_t ldc;
    bool accumulate;
};

struct TuneOps {
    const char* name;
    void (*matmul)(const MatmulArgs& args);
    // grad_x += gradient of rms_norm at x, given the gradient `grad` of its output; n is a multiple of 16.
    void (*rms_norm_backward)(const float* x, const float* weight, int n, float eps, const float* grad, float* grad_x);
    // hidden = silu(gate) * up; n is a multiple of 16.
    void (*swiglu)(const float* gate, const float* up, int n, float* hidden);
    // Replace gate and up by their gradients, given the gradient `grad` of silu(gate) * up.
    void (*swiglu_backward)(float* gate, float* up, int n, const float* grad);
    // Rotary embedding: rotate the pairs (x0, x1), ... of n elements by angles given as (cos, cos) and (-sin, sin), or
    // by the opposite angles with `inverse`.
    void (*rotate)(float* x, const float* cosines, const float* sines, int n, bool inverse);
    // Replace scores (n,) by softmax weights; those past `visible` become 0. Return the log of the sum of e^score. n is
    // a multiple of 16.
    float (*softmax)(float* scores, int visible, int n);
    // Replace scores by weights e^(score - log_sum); those past `visible` become 0.
    void (*softmax_from_log_sum)(float* scores, int visible, int n, float log_sum);
    // grad = weights * (grad - mean) * factor
    void (*softmax_backward)(const float* weights, float* grad, int n, float mean, float factor);
    float (*dot)(const float* a, const float* b, int n);
};

extern const TuneOps kScalarTuneOps;
extern const TuneOps kAvx2TuneOps;
extern const TuneOps kAvx512TuneOps;

}  // namespace empu
