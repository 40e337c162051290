// What tuning needs beyond the verbs of inference: products of floats, and the gradients of the other verbs. Sums run in
// a fixed order on one machine; another instruction set may round otherwise.
#pragma once

#include <cstddef>

namespace empu {

// C (m, n) = A B, or C += A B: A's element (i, k) is at a[i * row + k * column], B (depth, n) and C are row after row.
// n is a multiple of 16.
struct Product {
    int m, n, depth;
    const float* a;
    size_t row, column;
    const float* b;
    size_t ldb;
    float* c;
    size_t ldc;
    bool add;
};

struct TuneOps {
    const char* name;
    void (*product)(const Product& product);
    // dx += the gradient of rms_norm at x for the gradient g of its result; n is a multiple of 16.
    void (*rms_norm_back)(const float* x, const float* weight, int n, float eps, const float* g, float* dx);
    // hidden = silu(gate) * up; n is a multiple of 16.
    void (*gate)(const float* gate, const float* up, int n, float* hidden);
    // Turns gate and up into their gradients for the gradient g of silu(gate) * up.
    void (*gate_back)(float* gate, float* up, int n, const float* g);
    // Turns pairs (x0, x1), ... of n elements by angles given as (cos, cos) and (-sin, sin); `back` turns the other way.
    void (*rotate)(float* x, const float* cosines, const float* sines, int n, bool back);
    // Scores (n,) of which those past `seen` do not count become weights that add up to 1; gives the logarithm of the
    // sum of the scores' powers of e. n is a multiple of 16.
    float (*softmax)(float* scores, int seen, int n);
    // Scores become weights e^(score - log_sum); those past `seen` become 0.
    void (*weights)(float* scores, int seen, int n, float log_sum);
    // g = weights * (g - mean) * factor
    void (*softmax_back)(const float* weights, float* g, int n, float mean, float factor);
    float (*dot)(const float* a, const float* b, int n);
};

extern const TuneOps kScalarTuneOps;
extern const TuneOps kAvx2TuneOps;
extern const TuneOps kAvx512TuneOps;

}  // namespace empu
