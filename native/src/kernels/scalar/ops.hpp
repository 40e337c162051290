// The verbs in plain loops over 16 lanes: the oracle, and where nothing faster exists the engine itself. Every
// ops_*.cpp includes this file and compiles it for its own instruction set, so everything stays in an anonymous
// namespace and no library template is used: one instance of such a template would be shared by all, with instructions
// that not every processor has.
#pragma once

#include "kernels/float16.hpp"
#include "kernels/ops.hpp"

namespace empu {
namespace {

inline float larger(float a, float b) { return a > b ? a : b; }
inline float smaller(float a, float b) { return a < b ? a : b; }
inline float magnitude(float x) { return float_of_bits(bits_of_float(x) & 0x7fffffffu); }
inline int padded(int n) { return (n + kLanes - 1) / kLanes * kLanes; }

inline float add_lanes(float* lanes) {
    for (int half = kLanes / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    }
    return lanes[0];
}

// To nearest, ties to even, for |x| below 2^22.
inline float round_even(float x) { return (x + 12582912.0f) - 12582912.0f; }

// Polynomials for 2^f, f in [-0.5, 0.5], the highest power first. The wide verbs take the same ones, in the same order.
constexpr float kExp2[] = {1.5403530e-4f, 1.3333558e-3f, 9.6181291e-3f, 5.5504109e-2f,
                           2.4022651e-1f, 6.9314718e-1f, 1.0f};
constexpr float kCoarseExp2[] = {0.05517167f, 0.24261112f, 0.69326099f, 0.99992807f};

template <size_t N>
inline float polynomial(const float (&factors)[N], float f) {
    float p = factors[0];
    for (size_t i = 1; i < N; ++i) p = __builtin_fmaf(p, f, factors[i]);
    return p;
}

// 2^x for x <= 0 within two units in the last place, 1 for 0; a polynomial for the fraction in [-0.5, 0.5].
inline float exp2_of(float x) {
    x = larger(x, -126.0f);
    const float whole = round_even(x);
    const float f = x - whole;
    return polynomial(kExp2, f) * float_of_bits((uint32_t)((int32_t)whole + 127) << 23);
}

// x / (1 + e^-x), written with the power of -|x| so that nothing overflows.
inline float silu(float x) {
    const float power = exp2_of(magnitude(x) * -1.44269504f);
    return x * (x < 0 ? power : 1.0f) / (1.0f + power);
}

void rms_norm(const float* x, const float* weight, int n, float eps, float* out) {
    float lanes[kLanes] = {};
    for (int i = 0; i < padded(n); i += kLanes) {
        for (int l = 0; l < kLanes; ++l) lanes[l] = __builtin_fmaf(x[i + l], x[i + l], lanes[l]);
    }
    const float scale = 1.0f / __builtin_sqrtf(add_lanes(lanes) / (float)n + eps);
    for (int i = 0; i < padded(n); ++i) out[i] = x[i] * scale * weight[i];
}

// Scale, sum and total of a span, which is a group or, of fine rows, a half of one, for numbers of this total of
// elements of which this is the largest.
inline void note_span(const Rows& rows, int token, int span, float largest, int32_t total) {
    const size_t spans = (size_t)rows.spans(), at = (size_t)token * spans + (size_t)span;
    const float scale = largest / 127.0f, sum = (float)total * scale;
    rows.scales[at] = scale;
    rows.totals[at] = total;
    rows.sums[at] = sum;
    if (!rows.tiled) return;
    float* tiled = rows.tiled + ((size_t)(token / kLanes) * spans + (size_t)span) * kTiledFloats + token % kLanes;
    tiled[0] = scale;
    tiled[kLanes] = sum;
}

// The numbers of `count` elements, and what is noted of them.
void quantise_span(const float* x, int count, const Rows& rows, int8_t* numbers, int token, int span) {
    float largest = 0;
    for (int i = 0; i < count; ++i) largest = larger(magnitude(x[i]), largest);
    const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
    int32_t total = 0;
    for (int i = 0; i < count; ++i) {
        // The sum with 1.5 * 2^23 has the rounded number in its lowest bits.
        numbers[i] = (int8_t)(uint8_t)(bits_of_float(x[i] * inverse + 12582912.0f) & 0xffu);
        total += numbers[i];
    }
    note_span(rows, token, span, largest, total);
}

void quantise(const float* x, const Rows& rows, int token, int begin, int end) {
    const size_t first = (size_t)token * (size_t)rows.groups();
    for (int group = begin; group < end; ++group, x += kGroup) {
        const size_t at = first + (size_t)group;
        int8_t* numbers = rows.numbers + at * kGroup;
        if (rows.fine) {
            quantise_span(x, kGroup / 2, rows, numbers, token, 2 * group);
            quantise_span(x + kGroup / 2, kGroup / 2, rows, numbers + kGroup / 2, token, 2 * group + 1);
        } else {
            quantise_span(x, kGroup, rows, numbers, token, group);
        }
    }
}

void tile_float32(const uint8_t* tile, const Rows& rows, int token, float* acc) {
    const float* weights = (const float*)tile;
    const float* x = rows.floats + (size_t)token * (size_t)rows.stride;
    for (int column = 0; column < rows.cols; ++column, weights += kLanes) {
        for (int l = 0; l < kLanes; ++l) acc[l] = __builtin_fmaf(weights[l], x[column], acc[l]);
    }
}

// Adds to each row's sum the products of the numbers of a group, or of a half, with the group's activations.
void add_dots_q4(const uint8_t* numbers, const int8_t* a, Span span, int32_t* dot) {
    const int low_bits = span == Span::Second ? 0 : 15, high_bits = span == Span::First ? 0 : 15;
    for (int line = 0; line < 4; ++line) {
        for (int l = 0; l < kLanes; ++l) {
            for (int i = 0; i < 4; ++i) {
                const int both = numbers[line * 64 + l * 4 + i];
                dot[l] += (both & low_bits) * a[line * 4 + i] + (both >> 4 & high_bits) * a[16 + line * 4 + i];
            }
        }
    }
}

void add_dots_q8(const uint8_t* numbers, const int8_t* a, Span span, int32_t* dot) {
    for (int line = span == Span::Second ? 4 : 0; line < (span == Span::First ? 4 : 8); ++line) {
        for (int l = 0; l < kLanes; ++l) {
            for (int i = 0; i < 4; ++i) dot[l] += numbers[line * 64 + l * 4 + i] * a[line * 4 + i];
        }
    }
}

// Calls `each(span, entry)` with what has a scale of its own in a group, and its entry in scales, sums and totals.
template <typename Each>
inline void spans(const Rows& rows, size_t group, const Each& each) {
    if (rows.fine) {
        each(Span::First, 2 * group);
        each(Span::Second, 2 * group + 1);
    } else {
        each(Span::Group, group);
    }
}

void tile_q4(const uint8_t* tile, const Rows& rows, int token, float* acc) {
    const size_t first = (size_t)token * (size_t)rows.groups();
    for (int group = 0; group < rows.groups(); ++group, tile += kQ4GroupBytes) {
        uint16_t scales[kLanes], minima[kLanes];
        memcpy(scales, tile + 256, sizeof scales);
        memcpy(minima, tile + 288, sizeof minima);
        const size_t at = first + (size_t)group;
        spans(rows, at, [&](Span span, size_t entry) {
            int32_t dot[kLanes] = {};
            add_dots_q4(tile, rows.numbers + at * kGroup, span, dot);
            for (int l = 0; l < kLanes; ++l) {
                acc[l] = __builtin_fmaf(float_of_half(minima[l]), rows.sums[entry], acc[l]);
                acc[l] = __builtin_fmaf((float)dot[l] * rows.scales[entry], float_of_half(scales[l]), acc[l]);
            }
        });
    }
}

// A kind in pairs of groups, whose numbers are stored with `offset` more.
template <typename AddDots>
void tile_in_pairs(const uint8_t* tile, const Rows& rows, int token, size_t numbers, int offset, float* acc,
                   const AddDots& add_dots) {
    const size_t first = (size_t)token * (size_t)rows.groups();
    for (int group = 0; group < rows.groups(); ++group) {
        uint16_t scales[kLanes];
        memcpy(scales, tile + scales_at(numbers, rows.groups(), group), sizeof scales);
        const size_t at = first + (size_t)group;
        spans(rows, at, [&](Span span, size_t entry) {
            int32_t dot[kLanes] = {};
            add_dots(tile + numbers_at(numbers, group), rows.numbers + at * kGroup, span, dot);
            for (int l = 0; l < kLanes; ++l) {
                const float product = (float)(dot[l] - offset * rows.totals[entry]) * rows.scales[entry];
                acc[l] = __builtin_fmaf(product, float_of_half(scales[l]), acc[l]);
            }
        });
    }
}

void multiply_tile(const Matrix& matrix, const uint8_t* tile, const Rows& rows, int token, float* acc) {
    for (int l = 0; l < kLanes; ++l) acc[l] = 0;
    switch (matrix.kind) {
        case Kind::Q4:
            return tile_q4(tile, rows, token, acc);
        case Kind::Q4Symmetric:
            return tile_in_pairs(tile, rows, token, kQ4Numbers, 8, acc, add_dots_q4);
        case Kind::Q8:
            return tile_in_pairs(tile, rows, token, kQ8Numbers, 128, acc, add_dots_q8);
        case Kind::Float32:
            return tile_float32(tile, rows, token, acc);
    }
}

void multiply(const Tiles& tiles, const Rows& rows, int tokens, float* out, size_t ld, Store store) {
    const Matrix& matrix = *tiles.matrix;
    for (int tile = tiles.begin; tile < tiles.end; ++tile) {
        const uint8_t* weights = matrix.memory.bytes() + matrix.tile_bytes * (size_t)tile;
        for (int token = 0; token < tokens; ++token) {
            float acc[kLanes];
            multiply_tile(matrix, weights, rows, token, acc);
            float* target = out + (size_t)token * ld + (size_t)tile * kLanes;
            for (int l = 0; l < kLanes; ++l) target[l] = store == Store::Add ? target[l] + acc[l] : acc[l];
        }
    }
}

void gate(float* gate, const float* up, int n) {
    for (int i = 0; i < n; ++i) gate[i] = silu(gate[i]) * up[i];
}

void multiply_gated(const Tiles& tiles, const Matrix& up, const Rows& rows, int tokens, float* out, size_t ld) {
    const Matrix& matrix = *tiles.matrix;
    for (int tile = tiles.begin; tile < tiles.end; ++tile) {
        const size_t at = matrix.tile_bytes * (size_t)tile;
        for (int token = 0; token < tokens; ++token) {
            float gates[kLanes], ups[kLanes];
            multiply_tile(matrix, matrix.memory.bytes() + at, rows, token, gates);
            multiply_tile(up, up.memory.bytes() + at, rows, token, ups);
            gate(gates, ups, kLanes);
            memcpy(out + (size_t)token * ld + (size_t)tile * kLanes, gates, sizeof gates);
        }
    }
}

void rotate(const float* x, const float* cosines, const float* sines, int pairs, float factor, float* out) {
    for (int i = 0; i < pairs; ++i) {
        const float first = x[2 * i], second = x[2 * i + 1];
        out[2 * i] = (first * cosines[i] - second * sines[i]) * factor;
        out[2 * i + 1] = (first * sines[i] + second * cosines[i]) * factor;
    }
}

void to_bfloat(const float* x, int n, uint16_t* out) {
    for (int i = 0; i < n; ++i) {
        const float within = larger(smaller(x[i], 0x1p50f), -0x1p50f);
        out[i] = magnitude(within) < 0x1p-50f ? (uint16_t)0 : bfloat_of_float(within);
    }
}

void to_small(const float* x, int n, int8_t* out, uint16_t* scale) {
    float largest = 0;
    for (int i = 0; i < n; ++i) largest = larger(magnitude(x[i]), largest);
    *scale = half_of_float(largest / 127.0f);
    const float stored = float_of_half(*scale);
    const float inverse = stored > 0 ? 1.0f / stored : 0.0f;
    for (int i = 0; i < n; ++i) {
        // The sum with 1.5 * 2^23 has the rounded number in its lowest bits.
        const float number = larger(smaller(x[i] * inverse, 127.0f), -127.0f);
        out[i] = (int8_t)(uint8_t)(bits_of_float(number + 12582912.0f) & 0xffu);
    }
}

inline float cached(const uint16_t* at) { return float_of_bfloat(*at); }
inline float cached(const int8_t* at) { return (float)*at; }

inline float rounded(float x) { return float_of_bfloat(bfloat_of_float(x)); }

// What the 64 scores, or the 64 weights of the values, are multiplied by.
inline void scale_scores(const CacheBlock&, float*) {}
inline void scale_weights(const CacheBlock&, float*) {}
inline void scale_scores(const SmallBlock& block, float* scores) {
    for (int key = 0; key < kBlockKeys; ++key) scores[key] *= float_of_half(block.key_scales[key]);
}
inline void scale_weights(const SmallBlock& block, float* weights) {
    for (int key = 0; key < kBlockKeys; ++key) {
        weights[key] = rounded(weights[key] * float_of_half(block.value_scales[key]));
    }
}

constexpr float kLeastPower = -40.0f;  // weights below 2 to it are zero

// 2^x for x in [-40, 0] within 1/13,000, a small part of what the rounding to bfloat16 changes.
inline float coarse_exp2(float x) {
    const float whole = round_even(x);
    const float f = x - whole;
    return polynomial(kCoarseExp2, f) * float_of_bits((uint32_t)((int32_t)whole + 127) << 23);
}

// Scores (64,) become weights relative to the largest one of those in [low, high), and zero outside.
void to_weights(float* scores, int low, int high, float* top, float* sum) {
    float largest = kNothing;
    for (int key = low; key < high; ++key) largest = larger(scores[key], largest);
    for (int key = 0; key < kBlockKeys; ++key) {
        const float x = scores[key] - largest;
        const float power = rounded(coarse_exp2(larger(smaller(x, 0.0f), kLeastPower)));
        scores[key] = low <= key && key < high && x >= kLeastPower ? power : 0.0f;
    }
    float lanes[kLanes];
    for (int l = 0; l < kLanes; ++l) {
        lanes[l] = ((scores[2 * l + 1] + scores[2 * l]) + scores[2 * l + 33]) + scores[2 * l + 32];
    }
    *top = largest;
    *sum = add_lanes(lanes);
}

void merge(const Partial& sum, const Partial& part, int head_dim) {
    if (*part.weight == 0) return;
    const bool first = *sum.weight == 0;
    const float largest = first ? *part.largest : larger(*sum.largest, *part.largest);
    const float old_share = first ? 0.0f : exp2_of(*sum.largest - largest);
    const float new_share = exp2_of(*part.largest - largest);
    *sum.largest = largest;
    *sum.weight = __builtin_fmaf(first ? 0.0f : *sum.weight, old_share, *part.weight * new_share);
    for (int d = 0; d < padded(head_dim); ++d) {
        sum.values[d] = __builtin_fmaf(first ? 0.0f : sum.values[d], old_share, part.values[d] * new_share);
    }
}

// Each query for itself. `score(q, keys, head_dim, scores)` gives the 64 scores, `weigh(weights, values, width, out)`
// the sum of the 64 weighted values.
template <typename Block, typename Score, typename Weigh>
inline void attend_each(const uint16_t* q, int ldq, int queries, const Block& block, int head_dim, const int* low,
                        const int* high, const Partial& out, Store store, const Score& score, const Weigh& weigh) {
    const int width = padded(head_dim);
    for (int i = 0; i < queries; ++i, q += ldq) {
        const Partial target = {out.largest + i, out.weight + i, out.values + (size_t)i * (size_t)width};
        if (store == Store::Set) *target.weight = 0;
        if (low[i] >= high[i]) continue;
        float query[kMostHeadDim], scores[kBlockKeys], values[kMostHeadDim], largest, weight;
        for (int d = 0; d < head_dim; ++d) query[d] = float_of_bfloat(q[d]);
        score(query, block.keys, head_dim, scores);
        scale_scores(block, scores);
        to_weights(scores, low[i], high[i], &largest, &weight);
        scale_weights(block, scores);
        const Partial part = {&largest, &weight, store == Store::Set ? target.values : values};
        weigh(scores, block.values, width, part.values);
        if (store == Store::Add) {
            merge(target, part, head_dim);
        } else {
            *target.largest = largest;
            *target.weight = weight;
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

// The same in the order of AMX: of 16 pairs the first ones and the second ones each for themselves, then both added.
inline float paired_sum(int pairs, const float* factors, const uint16_t* numbers, size_t step) {
    float sum = 0;
    for (int begin = 0; begin < pairs; begin += kLanes) {
        float firsts = 0, seconds = 0;
        for (int pair = begin; pair < begin + kLanes; ++pair) {
            firsts = __builtin_fmaf(cached(numbers + (size_t)pair * step), factors[2 * pair], firsts);
            seconds = __builtin_fmaf(cached(numbers + (size_t)pair * step + 1), factors[2 * pair + 1], seconds);
        }
        sum += firsts + seconds;
    }
    return sum;
}

void paired_score(const float* q, const uint16_t* keys, int head_dim, float* scores) {
    for (int key = 0; key < kBlockKeys; ++key) {
        scores[key] = paired_sum(head_dim / 2, q, keys + 2 * key, 2 * kBlockKeys);
    }
}

void paired_weigh(const float* weights, const uint16_t* values, int width, float* out) {
    for (int d = 0; d < width; ++d) out[d] = paired_sum(kBlockKeys / 2, weights, values + 2 * d, 2 * (size_t)width);
}

void attend(const uint16_t* q, int ldq, int queries, const CacheBlock& block, int head_dim, const int* low,
            const int* high, const Partial& out, Store store) {
    attend_each(q, ldq, queries, block, head_dim, low, high, out, store, score<uint16_t>, weigh<uint16_t>);
}

void paired_attend(const uint16_t* q, int ldq, int queries, const CacheBlock& block, int head_dim, const int* low,
                   const int* high, const Partial& out, Store store) {
    if (head_dim % (2 * kLanes) != 0) return attend(q, ldq, queries, block, head_dim, low, high, out, store);
    attend_each(q, ldq, queries, block, head_dim, low, high, out, store, paired_score, paired_weigh);
}

void attend_small(const uint16_t* q, int ldq, int queries, const SmallBlock& block, int head_dim, const int* low,
                  const int* high, const Partial& out, Store store) {
    attend_each(q, ldq, queries, block, head_dim, low, high, out, store, score<int8_t>, weigh<int8_t>);
}

constexpr float kLeastOfPowers = -100.0f;

float powers(const float* x, int n, float largest, float factor, float* out) {
    float lanes[kLanes] = {};
    for (int i = 0; i < n; i += kLanes) {
        for (int l = 0; l < kLanes; ++l) {
            const float exponent = (x[i + l] - largest) * factor;
            out[i + l] = exponent >= kLeastOfPowers ? exp2_of(exponent) : 0.0f;
            lanes[l] += out[i + l];
        }
    }
    return add_lanes(lanes);
}

int64_t products(int rounds, int32_t& sum) {
    constexpr int kNumbers = 256;
    uint8_t numbers[kNumbers];
    int8_t others[kNumbers];
    for (int i = 0; i < kNumbers; ++i) numbers[i] = uint8_t(i), others[i] = int8_t(i - 128);
    for (int round = 0; round < rounds; ++round) {
        asm volatile("" : : "r"(numbers), "r"(others) : "memory");  // read anew each time
        for (int i = 0; i < kNumbers; ++i) sum += int32_t(numbers[i]) * int32_t(others[i]);
    }
    return int64_t(rounds) * kNumbers;
}

void finish(const Partial& sum, int head_dim, float* out) {
    const float inverse = 1.0f / *sum.weight;
    for (int d = 0; d < head_dim; ++d) out[d] = sum.values[d] * inverse;
}

}  // namespace
}  // namespace empu
