// Sampling of a token, with the filters of engine/sampling.py in their order; its functions on arrays are the oracle.
#pragma once

#include <span>

#include "kernels/ops.hpp"

namespace empu {

struct SamplingParams {
    float temperature;  // above 0
    int top_k;          // 0: all
    float top_p;        // 1: all
    float min_p;        // 0: all
};

// Return the token at `uniform` in [0, 1) of the cumulative distribution, in order of ids. Throws Error if the largest
// logit is not finite.
int sample(const Ops& ops, std::span<const float> logits, const SamplingParams& params, double uniform);

}  // namespace empu
