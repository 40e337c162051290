// Scalar attention to blocks of the KV cache.
#pragma once

#include "kernels/scalar/math.hpp"

namespace empu {
namespace {

inline float cached(const uint16_t* element) { return bfloat16_to_float(*element); }
inline float cached(const int8_t* element) { return (float)*element; }

// Apply the scales of an int8 block to the 64 scores of its keys, or the 64 weights of its values.
inline void scale_scores(const CacheBlockBf16&, float*) {}
inline void scale_weights(const CacheBlockBf16&, float*) {}
inline void scale_scores(const CacheBlockInt8& block, float* scores) {
    for (int key = 0; key < kBlockKeys; ++key) scores[key] *= half_to_float(block.key_scales[key]);
}
inline void scale_weights(const CacheBlockInt8& block, float* weights) {
    for (int key = 0; key < kBlockKeys; ++key) {
        weights[key] = round_to_bfloat16(weights[key] * half_to_float(block.value_scales[key]));
    }
}

constexpr float kMinExponent = -40.0f;  // weights below 2^kMinExponent are zero

// Replace scores (64,) by weights relative to the largest score in [low, high), and by zero outside.
void softmax_block(float* scores, int low, int high, float* max_score, float* weight_sum) {
    float largest = kMinScore;
    for (int key = low; key < high; ++key) largest = larger(scores[key], largest);
    for (int key = 0; key < kBlockKeys; ++key) {
        const float x = scores[key] - largest;
        const float weight = round_to_bfloat16(scalar_coarse_exp2(larger(smaller(x, 0.0f), kMinExponent)));
        scores[key] = low <= key && key < high && x >= kMinExponent ? weight : 0.0f;
    }
    float lanes[kLanes];
    for (int l = 0; l < kLanes; ++l) {
        lanes[l] = ((scores[2 * l + 1] + scores[2 * l]) + scores[2 * l + 33]) + scores[2 * l + 32];
    }
    *max_score = largest;
    *weight_sum = add_lanes(lanes);
}

void merge(const PartialAttention& sum, const PartialAttention& part, int head_dim) {
    if (*part.weight_sum == 0) return;
    const bool first = *sum.weight_sum == 0;
    const float max_score = first ? *part.max_score : larger(*sum.max_score, *part.max_score);
    const float old_factor = first ? 0.0f : scalar_exp2(*sum.max_score - max_score);
    const float new_factor = scalar_exp2(*part.max_score - max_score);
    *sum.max_score = max_score;
    *sum.weight_sum = __builtin_fmaf(first ? 0.0f : *sum.weight_sum, old_factor, *part.weight_sum * new_factor);
    for (int d = 0; d < padded(head_dim); ++d) {
        sum.values[d] = __builtin_fmaf(first ? 0.0f : sum.values[d], old_factor, part.values[d] * new_factor);
    }
}

void normalise(const PartialAttention& sum, int head_dim, float* out) {
    const float inverse = 1.0f / *sum.weight_sum;
    for (int d = 0; d < head_dim; ++d) out[d] = sum.values[d] * inverse;
}

// Attend with each query in turn. `score(q, keys, head_dim, scores)` computes the 64 scores, `weigh(weights, values,
// width, out)` the weighted sum of the 64 values.
template <typename Block, typename Score, typename Weigh>
inline void attend_each(const uint16_t* q, int ldq, int queries, const Block& block, int head_dim, const int* low,
                        const int* high, const PartialAttention& out, Store store, const Score& score,
                        const Weigh& weigh) {
    const int width = padded(head_dim);
    for (int i = 0; i < queries; ++i, q += ldq) {
        const PartialAttention target = {out.max_score + i, out.weight_sum + i, out.values + (size_t)i * (size_t)width};
        if (store == Store::Set) *target.weight_sum = 0;
        if (low[i] >= high[i]) continue;
        float query[kMaxHeadDim], scores[kBlockKeys], values[kMaxHeadDim], max_score, weight_sum;
        for (int d = 0; d < head_dim; ++d) query[d] = bfloat16_to_float(q[d]);
        score(query, block.keys, head_dim, scores);
        scale_scores(block, scores);
        softmax_block(scores, low[i], high[i], &max_score, &weight_sum);
        scale_weights(block, scores);
        const PartialAttention part = {&max_score, &weight_sum, store == Store::Set ? target.values : values};
        weigh(scores, block.values, width, part.values);
        if (store == Store::Add) {
            merge(target, part, head_dim);
        } else {
            *target.max_score = max_score;
            *target.weight_sum = weight_sum;
        }
    }
}

template <typename Element>
void score(const float* q, const Element* keys, int head_dim, float* scores) {
    for (int key = 0; key < kBlockKeys; ++key) scores[key] = 0;
    for (int d = 0; d < head_dim; d += 2, keys += 2 * kBlockKeys) {
        for (int key = 0; key < kBlockKeys; ++key) {
            scores[key] = __builtin_fmaf(cached(keys + 2 * key + 1), q[d + 1], scores[key]);
            scores[key] = __builtin_fmaf(cached(keys + 2 * key), q[d], scores[key]);
        }
    }
}

template <typename Element>
void weigh(const float* weights, const Element* values, int width, float* out) {
    for (int d = 0; d < width; ++d) out[d] = 0;
    for (int key = 0; key < kBlockKeys; key += 2, values += 2 * width) {
        for (int d = 0; d < width; ++d) {
            out[d] = __builtin_fmaf(cached(values + 2 * d + 1), weights[key + 1], out[d]);
            out[d] = __builtin_fmaf(cached(values + 2 * d), weights[key], out[d]);
        }
    }
}

// Sum in the order of AMX: of each 16 pairs, the first elements and the second elements separately, then both added.
inline float amx_order_sum(int pairs, const float* factors, const uint16_t* elements, size_t stride) {
    float sum = 0;
    for (int begin = 0; begin < pairs; begin += kLanes) {
        float firsts = 0, seconds = 0;
        for (int pair = begin; pair < begin + kLanes; ++pair) {
            firsts = __builtin_fmaf(cached(elements + (size_t)pair * stride), factors[2 * pair], firsts);
            seconds = __builtin_fmaf(cached(elements + (size_t)pair * stride + 1), factors[2 * pair + 1], seconds);
        }
        sum += firsts + seconds;
    }
    return sum;
}

void amx_order_score(const float* q, const uint16_t* keys, int head_dim, float* scores) {
    for (int key = 0; key < kBlockKeys; ++key) {
        scores[key] = amx_order_sum(head_dim / 2, q, keys + 2 * key, 2 * kBlockKeys);
    }
}

void amx_order_weigh(const float* weights, const uint16_t* values, int width, float* out) {
    for (int d = 0; d < width; ++d) out[d] = amx_order_sum(kBlockKeys / 2, weights, values + 2 * d, 2 * (size_t)width);
}

void attend(const uint16_t* q, int ldq, int queries, const CacheBlockBf16& block, int head_dim, const int* low,
            const int* high, const PartialAttention& out, Store store) {
    attend_each(q, ldq, queries, block, head_dim, low, high, out, store, score<uint16_t>, weigh<uint16_t>);
}

void amx_order_attend(const uint16_t* q, int ldq, int queries, const CacheBlockBf16& block, int head_dim,
                      const int* low, const int* high, const PartialAttention& out, Store store) {
    if (head_dim % (2 * kLanes) != 0) return attend(q, ldq, queries, block, head_dim, low, high, out, store);
    attend_each(q, ldq, queries, block, head_dim, low, high, out, store, amx_order_score, amx_order_weigh);
}

void attend_int8(const uint16_t* q, int ldq, int queries, const CacheBlockInt8& block, int head_dim, const int* low,
                 const int* high, const PartialAttention& out, Store store) {
    attend_each(q, ldq, queries, block, head_dim, low, high, out, store, score<int8_t>, weigh<int8_t>);
}

}  // namespace
}  // namespace empu
