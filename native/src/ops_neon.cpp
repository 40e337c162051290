// ARM's NEON with its dot product of signed bytes: one register is four of a tile's 16 rows. The verbs that are missing
// here are the plain ones, which the compiler turns into vectors of four.
#include <arm_neon.h>

#include "ops_portable.hpp"

namespace empu {
extern const Ops kNeonOps;

namespace {

constexpr int kQuarter = 4;       // rows of a register
constexpr int kRegisters = 2;     // of a half tile
constexpr int kAhead = 2 * 1024;  // bytes that the weights are fetched before their use

inline float32x4_t halves(const uint8_t* at) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(at))); }

// Adds to each of four rows the products of its four numbers and the four at `Lane` of 16 activations.
template <int Lane>
inline int32x4_t add_dot(int32x4_t sum, int8x16_t numbers, int8x16_t a) {
    return vdotq_laneq_s32(sum, numbers, a, Lane);
}

// The activations of a group: columns 0 to 15, and 16 to 31.
struct Group {
    int8x16_t low, high;
};

inline Group group_of(const int8_t* at) { return {vld1q_s8(at), vld1q_s8(at + 16)}; }

template <int T, int Line>
inline void line_q4(const uint8_t* at, const Group (&a)[T], int32x4_t (&dot)[T][kRegisters]) {
    __builtin_prefetch(at + kAhead + 64 * Line);
    for (int r = 0; r < kRegisters; ++r) {
        const uint8x16_t both = vld1q_u8(at + 64 * Line + 16 * r);
        const int8x16_t low = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15)));
        const int8x16_t high = vreinterpretq_s8_u8(vshrq_n_u8(both, 4));
        for (int t = 0; t < T; ++t) {
            dot[t][r] = add_dot<Line>(dot[t][r], low, a[t].low);
            dot[t][r] = add_dot<Line>(dot[t][r], high, a[t].high);
        }
    }
}

template <int T, int Line>
inline void line_q8(const uint8_t* at, const Group (&a)[T], int32x4_t (&dot)[T][kRegisters]) {
    __builtin_prefetch(at + kAhead + 64 * Line);
    for (int r = 0; r < kRegisters; ++r) {
        // Stored with 128 more: the highest bit turned gives the signed number.
        const int8x16_t numbers = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(at + 64 * Line + 16 * r), vdupq_n_u8(128)));
        for (int t = 0; t < T; ++t) {
            dot[t][r] = add_dot<Line % 4>(dot[t][r], numbers, Line < 4 ? a[t].low : a[t].high);
        }
    }
}

template <int T>
inline void half_dots_q4(const uint8_t* at, const Group (&a)[T], int32x4_t (&dot)[T][kRegisters]) {
    line_q4<T, 0>(at, a, dot);
    line_q4<T, 1>(at, a, dot);
    line_q4<T, 2>(at, a, dot);
    line_q4<T, 3>(at, a, dot);
}

template <int T>
inline void half_dots_q8(const uint8_t* at, const Group (&a)[T], int32x4_t (&dot)[T][kRegisters]) {
    line_q8<T, 0>(at, a, dot);
    line_q8<T, 1>(at, a, dot);
    line_q8<T, 2>(at, a, dot);
    line_q8<T, 3>(at, a, dot);
    line_q8<T, 4>(at, a, dot);
    line_q8<T, 5>(at, a, dot);
    line_q8<T, 6>(at, a, dot);
    line_q8<T, 7>(at, a, dot);
}

// Each adds up one half of a tile, rows 8 * half on, for `T` tokens.
template <int T>
void half_q4(const uint8_t* tile, int half, const Rows& rows, int token, float32x4_t (&sums)[T][kRegisters]) {
    const size_t groups = (size_t)rows.groups(), first = (size_t)token * groups;
    const uint8_t* at = tile + 32 * half;
    const uint8_t* stored = tile + 256 + 16 * half;
    for (size_t group = 0; group < groups; ++group, at += kQ4GroupBytes, stored += kQ4GroupBytes) {
        Group a[T];
        int32x4_t dot[T][kRegisters];
        for (int t = 0; t < T; ++t) {
            a[t] = group_of(rows.numbers + (first + (size_t)t * groups + group) * kGroup);
            for (int32x4_t& one : dot[t]) one = vdupq_n_s32(0);
        }
        half_dots_q4<T>(at, a, dot);
        for (int r = 0; r < kRegisters; ++r) {
            const float32x4_t scale = halves(stored + 8 * r), minimum = halves(stored + 32 + 8 * r);
            for (int t = 0; t < T; ++t) {
                const size_t of = first + (size_t)t * groups + group;
                const float32x4_t sum = vfmaq_n_f32(sums[t][r], minimum, rows.sums[of]);
                sums[t][r] = vfmaq_f32(sum, vmulq_n_f32(vcvtq_f32_s32(dot[t][r]), rows.scales[of]), scale);
            }
        }
    }
}

// Numbers of Q8 become signed where they are read; those of Q4Symmetric have their offset taken off by the start.
template <Kind K, int T>
void half_in_pairs(const uint8_t* tile, int half, const Rows& rows, int token, float32x4_t (&sums)[T][kRegisters]) {
    constexpr size_t kNumbers = K == Kind::Q8 ? kQ8Numbers : kQ4Numbers;
    constexpr int kOffset = K == Kind::Q8 ? 0 : 8;
    const size_t groups = (size_t)rows.groups(), first = (size_t)token * groups;
    for (int group = 0; group < (int)groups; ++group) {
        const size_t of = first + (size_t)group;
        const uint8_t* at = tile + numbers_at(kNumbers, group) + 32 * half;
        Group a[T];
        int32x4_t dot[T][kRegisters];
        for (int t = 0; t < T; ++t) {
            a[t] = group_of(rows.numbers + (of + (size_t)t * groups) * kGroup);
            for (int32x4_t& one : dot[t]) one = vdupq_n_s32(-kOffset * rows.totals[of + (size_t)t * groups]);
        }
        if constexpr (K == Kind::Q8) {
            half_dots_q8<T>(at, a, dot);
        } else {
            half_dots_q4<T>(at, a, dot);
        }
        const uint8_t* stored = tile + scales_at(kNumbers, (int)groups, group) + 16 * half;
        for (int r = 0; r < kRegisters; ++r) {
            const float32x4_t scale = halves(stored + 8 * r);
            for (int t = 0; t < T; ++t) {
                const float32x4_t product = vmulq_n_f32(vcvtq_f32_s32(dot[t][r]), rows.scales[of + (size_t)t * groups]);
                sums[t][r] = vfmaq_f32(sums[t][r], product, scale);
            }
        }
    }
}

template <int T>
void half_float32(const uint8_t* tile, int half, const Rows& rows, int token, float32x4_t (&sums)[T][kRegisters]) {
    const float* weights = (const float*)tile + kQuarter * kRegisters * half;
    const float* x = rows.floats + (size_t)token * (size_t)rows.stride;
    for (int column = 0; column < rows.cols; ++column, weights += kLanes) {
        for (int r = 0; r < kRegisters; ++r) {
            const float32x4_t row = vld1q_f32(weights + kQuarter * r);
            for (int t = 0; t < T; ++t) {
                sums[t][r] = vfmaq_n_f32(sums[t][r], row, x[(size_t)t * (size_t)rows.stride + (size_t)column]);
            }
        }
    }
}

// The products of one tile for `T` tokens, (T, 16).
template <int T>
void wide_tile(const Matrix& matrix, const uint8_t* tile, const Rows& rows, int token, float (&out)[T][kLanes]) {
    for (int half = 0; half < 2; ++half) {
        float32x4_t sums[T][kRegisters];
        for (int t = 0; t < T; ++t) {
            for (float32x4_t& one : sums[t]) one = vdupq_n_f32(0);
        }
        if (matrix.kind == Kind::Q4) half_q4<T>(tile, half, rows, token, sums);
        if (matrix.kind == Kind::Q4Symmetric) half_in_pairs<Kind::Q4Symmetric, T>(tile, half, rows, token, sums);
        if (matrix.kind == Kind::Q8) half_in_pairs<Kind::Q8, T>(tile, half, rows, token, sums);
        if (matrix.kind == Kind::Float32) half_float32<T>(tile, half, rows, token, sums);
        for (int t = 0; t < T; ++t) {
            for (int r = 0; r < kRegisters; ++r) vst1q_f32(out[t] + kQuarter * (kRegisters * half + r), sums[t][r]);
        }
    }
}

constexpr int kMostTokens = 4;

template <int T>
void plain(const Matrix& matrix, int tile, const Rows& rows, int token, float* out, size_t ld, Store store) {
    float sums[T][kLanes];
    wide_tile<T>(matrix, matrix.memory.bytes() + matrix.tile_bytes * (size_t)tile, rows, token, sums);
    for (int t = 0; t < T; ++t) {
        float* target = out + (size_t)(token + t) * ld + (size_t)tile * kLanes;
        for (int l = 0; l < kLanes; ++l) target[l] = store == Store::Add ? target[l] + sums[t][l] : sums[t][l];
    }
}

void wide_multiply(const Tiles& tiles, const Rows& rows, int tokens, float* out, size_t ld, Store store) {
    for (int tile = tiles.begin; tile < tiles.end; ++tile) {
        int token = 0;
        for (; token + kMostTokens <= tokens; token += kMostTokens) {
            plain<kMostTokens>(*tiles.matrix, tile, rows, token, out, ld, store);
        }
        for (; token < tokens; ++token) plain<1>(*tiles.matrix, tile, rows, token, out, ld, store);
    }
}

template <int T>
void gated(const Matrix& matrix, const Matrix& up, int tile, const Rows& rows, int token, float* out, size_t ld) {
    const size_t at = matrix.tile_bytes * (size_t)tile;
    float gates[T][kLanes], ups[T][kLanes];
    wide_tile<T>(matrix, matrix.memory.bytes() + at, rows, token, gates);
    wide_tile<T>(up, up.memory.bytes() + at, rows, token, ups);
    for (int t = 0; t < T; ++t) {
        gate(gates[t], ups[t], kLanes);
        memcpy(out + (size_t)(token + t) * ld + (size_t)tile * kLanes, gates[t], sizeof gates[t]);
    }
}

void wide_multiply_gated(const Tiles& tiles, const Matrix& up, const Rows& rows, int tokens, float* out, size_t ld) {
    for (int tile = tiles.begin; tile < tiles.end; ++tile) {
        int token = 0;
        for (; token + kMostTokens <= tokens; token += kMostTokens) {
            gated<kMostTokens>(*tiles.matrix, up, tile, rows, token, out, ld);
        }
        for (; token < tokens; ++token) gated<1>(*tiles.matrix, up, tile, rows, token, out, ld);
    }
}

// Four elements of the cache.
inline float32x4_t four(const uint16_t* at) { return halves((const uint8_t*)at); }
inline float32x4_t four(const int8_t* at) {
    const int32_t numbers[kQuarter] = {at[0], at[1], at[2], at[3]};
    return vcvtq_f32_s32(vld1q_s32(numbers));
}

// One query against the 64 keys of a block, four at a time.
template <typename Element>
void score(const float* q, const Element* keys, int head_dim, float* scores) {
    float32x4_t sums[kBlockKeys / kQuarter];
    for (float32x4_t& sum : sums) sum = vdupq_n_f32(0);
    for (int d = 0; d < head_dim; ++d, keys += kBlockKeys) {
        for (int i = 0; i < kBlockKeys / kQuarter; ++i) sums[i] = vfmaq_n_f32(sums[i], four(keys + kQuarter * i), q[d]);
    }
    for (int i = 0; i < kBlockKeys / kQuarter; ++i) vst1q_f32(scores + kQuarter * i, sums[i]);
}

// 16 columns of the values of a block, weighed.
template <typename Element>
void weigh(const float* weights, const Element* values, int width, float* out) {
    float32x4_t sums[kLanes / kQuarter];
    for (float32x4_t& sum : sums) sum = vdupq_n_f32(0);
    for (int key = 0; key < kBlockKeys; ++key, values += width) {
        for (int i = 0; i < kLanes / kQuarter; ++i) {
            sums[i] = vfmaq_n_f32(sums[i], four(values + kQuarter * i), weights[key]);
        }
    }
    for (int i = 0; i < kLanes / kQuarter; ++i) vst1q_f32(out + kQuarter * i, sums[i]);
}

template <typename Block>
void wide_attend(const float* q, int ldq, int queries, const Block& block, int head_dim, const int* low,
                 const int* high, const Partial& out) {
    const int width = padded(head_dim);
    for (int query = 0; query < queries; ++query, q += ldq) {
        out.weight[query] = 0;
        if (low[query] >= high[query]) continue;
        float scores[kBlockKeys];
        score(q, block.keys, head_dim, scores);
        scale_scores(block, scores);
        to_weights(scores, low[query], high[query], out.largest + query, out.weight + query);
        scale_weights(block, scores);
        float* values = out.values + (size_t)query * (size_t)width;
        for (int d = 0; d < width; d += kLanes) weigh(scores, block.values + d, width, values + d);
    }
}

int64_t wide_products(int rounds, int32_t& sum) {
    constexpr int kSums = 8, kRowsTimesColumns = 16;
    int8x16_t numbers = vdupq_n_s8(15), others = vdupq_n_s8(-3);
    int32x4_t sums[kSums];
#pragma GCC unroll 8
    for (int i = 0; i < kSums; ++i) sums[i] = vdupq_n_s32(0);
    for (int round = 0; round < rounds; ++round) {
#pragma GCC unroll 8  // without it the sums lie in memory
        for (int i = 0; i < kSums; ++i) {
            sums[i] = add_dot<0>(sums[i], numbers, others);
            asm volatile("" : "+w"(sums[i]), "+w"(numbers));  // each for itself, and none ahead of the loop
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kSums; ++i) sum += vaddvq_s32(sums[i]);
    return int64_t(rounds) * kSums * kRowsTimesColumns;
}

}  // namespace

const Ops kNeonOps = {"neon",
                      rms_norm,
                      quantise,
                      wide_multiply,
                      wide_multiply_gated,
                      gate,
                      rotate,
                      to_half,
                      wide_attend<CacheBlock>,
                      merge,
                      finish,
                      wide_products,
                      to_small,
                      wide_attend<SmallBlock>};

}  // namespace empu
