// ARM's NEON with its dot product of signed bytes: one register is four of a tile's 16 rows. The verbs that are missing
// here are the plain ones, which the compiler turns into vectors of four.
#include <arm_neon.h>

#include "kernels/scalar/ops.hpp"

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

template <Span S, int T, int Line>
inline void line_q4(const uint8_t* at, const Group (&a)[T], int32x4_t (&dot)[T][kRegisters]) {
    __builtin_prefetch(at + kAhead + 64 * Line);
    for (int r = 0; r < kRegisters; ++r) {
        const uint8x16_t both = vld1q_u8(at + 64 * Line + 16 * r);
        const int8x16_t low = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15)));
        const int8x16_t high = vreinterpretq_s8_u8(vshrq_n_u8(both, 4));
        for (int t = 0; t < T; ++t) {
            if constexpr (S != Span::Second) dot[t][r] = add_dot<Line>(dot[t][r], low, a[t].low);
            if constexpr (S != Span::First) dot[t][r] = add_dot<Line>(dot[t][r], high, a[t].high);
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

template <Kind K, Span S, int T>
inline void half_dots(const uint8_t* at, const Group (&a)[T], int32x4_t (&dot)[T][kRegisters]) {
    if constexpr (K == Kind::Q8) {
        if constexpr (S != Span::Second) {
            line_q8<T, 0>(at, a, dot);
            line_q8<T, 1>(at, a, dot);
            line_q8<T, 2>(at, a, dot);
            line_q8<T, 3>(at, a, dot);
        }
        if constexpr (S != Span::First) {
            line_q8<T, 4>(at, a, dot);
            line_q8<T, 5>(at, a, dot);
            line_q8<T, 6>(at, a, dot);
            line_q8<T, 7>(at, a, dot);
        }
    } else {
        line_q4<S, T, 0>(at, a, dot);
        line_q4<S, T, 1>(at, a, dot);
        line_q4<S, T, 2>(at, a, dot);
        line_q4<S, T, 3>(at, a, dot);
    }
}

// What lies at one group of half a tile, rows 8 * half on.
struct Place {
    const uint8_t* numbers;
    const uint8_t* scales;
    size_t group;  // of the first token, among all tokens' groups
};

// Adds the products of a group, or of a half of it, to the sums of eight rows for `T` tokens. Numbers of Q8 become
// signed where they are read; those of Q4Symmetric have their offset taken off by the start.
template <Kind K, Span S, int T>
inline void add_span(const Place& place, const Rows& rows, float32x4_t (&sums)[T][kRegisters]) {
    constexpr int kOffset = K == Kind::Q4Symmetric ? 8 : 0;
    const size_t groups = (size_t)rows.groups();
    Group a[T];
    size_t entry[T];
    int32x4_t dot[T][kRegisters];
    for (int t = 0; t < T; ++t) {
        const size_t at = place.group + (size_t)t * groups;
        entry[t] = S == Span::Group ? at : 2 * at + (S == Span::Second ? 1 : 0);
        a[t] = group_of(rows.numbers + at * kGroup);
        for (int32x4_t& one : dot[t]) one = vdupq_n_s32(-kOffset * rows.totals[entry[t]]);
    }
    half_dots<K, S, T>(place.numbers, a, dot);
    for (int r = 0; r < kRegisters; ++r) {
        const float32x4_t scale = halves(place.scales + 8 * r);
        for (int t = 0; t < T; ++t) {
            if constexpr (K == Kind::Q4) {
                sums[t][r] = vfmaq_n_f32(sums[t][r], halves(place.scales + 32 + 8 * r), rows.sums[entry[t]]);
            }
            sums[t][r] = vfmaq_f32(sums[t][r], vmulq_n_f32(vcvtq_f32_s32(dot[t][r]), rows.scales[entry[t]]), scale);
        }
    }
}

template <Kind K, int T>
inline void add_group(const Place& place, const Rows& rows, float32x4_t (&sums)[T][kRegisters]) {
    if (rows.fine) {
        add_span<K, Span::First, T>(place, rows, sums);
        add_span<K, Span::Second, T>(place, rows, sums);
    } else {
        add_span<K, Span::Group, T>(place, rows, sums);
    }
}

// Each adds up one half of a tile, rows 8 * half on, for `T` tokens.
template <int T>
void half_q4(const uint8_t* tile, int half, const Rows& rows, int token, float32x4_t (&sums)[T][kRegisters]) {
    const size_t first = (size_t)token * (size_t)rows.groups();
    for (int group = 0; group < rows.groups(); ++group, tile += kQ4GroupBytes) {
        add_group<Kind::Q4, T>({tile + 32 * half, tile + 256 + 16 * half, first + (size_t)group}, rows, sums);
    }
}

template <Kind K, int T>
void half_in_pairs(const uint8_t* tile, int half, const Rows& rows, int token, float32x4_t (&sums)[T][kRegisters]) {
    constexpr size_t kNumbers = K == Kind::Q8 ? kQ8Numbers : kQ4Numbers;
    const size_t first = (size_t)token * (size_t)rows.groups();
    for (int group = 0; group < rows.groups(); ++group) {
        const uint8_t* scales = tile + scales_at(kNumbers, rows.groups(), group);
        add_group<K, T>({tile + numbers_at(kNumbers, group) + 32 * half, scales + 16 * half, first + (size_t)group},
                        rows, sums);
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

// Four pairs of the cache.
struct Pairs {
    float32x4_t first, second;
};

inline Pairs pairs(const uint16_t* at) {
    const uint32x4_t both = vreinterpretq_u32_u16(vld1q_u16(at));
    return {vreinterpretq_f32_u32(vshlq_n_u32(both, 16)),
            vreinterpretq_f32_u32(vandq_u32(both, vdupq_n_u32(0xffff0000u)))};
}

inline Pairs pairs(const int8_t* at) {
    const int32x4_t both = vreinterpretq_s32_s16(vmovl_s8(vld1_s8(at)));
    return {vcvtq_f32_s32(vshrq_n_s32(vshlq_n_s32(both, 16), 16)), vcvtq_f32_s32(vshrq_n_s32(both, 16))};
}

inline float32x4_t add_pairs(float32x4_t sum, const Pairs& pairs, const float* factors) {
    return vfmaq_n_f32(vfmaq_n_f32(sum, pairs.second, factors[1]), pairs.first, factors[0]);
}

// One query against the 64 keys of a block, four at a time.
template <typename Element>
void wide_score(const float* q, const Element* keys, int head_dim, float* scores) {
    float32x4_t sums[kBlockKeys / kQuarter];
    for (float32x4_t& sum : sums) sum = vdupq_n_f32(0);
    for (int d = 0; d < head_dim; d += 2, keys += 2 * kBlockKeys) {
        for (int i = 0; i < kBlockKeys / kQuarter; ++i) {
            sums[i] = add_pairs(sums[i], pairs(keys + 2 * kQuarter * i), q + d);
        }
    }
    for (int i = 0; i < kBlockKeys / kQuarter; ++i) vst1q_f32(scores + kQuarter * i, sums[i]);
}

// The values of a block, weighed, 16 columns at a time.
template <typename Element>
void wide_weigh(const float* weights, const Element* values, int width, float* out) {
    for (int d = 0; d < width; d += kLanes) {
        float32x4_t sums[kLanes / kQuarter];
        for (float32x4_t& sum : sums) sum = vdupq_n_f32(0);
        const Element* at = values + 2 * d;
        for (int key = 0; key < kBlockKeys; key += 2, at += 2 * width) {
            for (int i = 0; i < kLanes / kQuarter; ++i) {
                sums[i] = add_pairs(sums[i], pairs(at + 2 * kQuarter * i), weights + key);
            }
        }
        for (int i = 0; i < kLanes / kQuarter; ++i) vst1q_f32(out + d + kQuarter * i, sums[i]);
    }
}

template <typename Block, typename Element>
void wide_attend(const uint16_t* q, int ldq, int queries, const Block& block, int head_dim, const int* low,
                 const int* high, const Partial& out, Store store) {
    attend_each(q, ldq, queries, block, head_dim, low, high, out, store, wide_score<Element>, wide_weigh<Element>);
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
                      to_bfloat,
                      wide_attend<CacheBlock, uint16_t>,
                      merge,
                      finish,
                      wide_products,
                      to_small,
                      wide_attend<SmallBlock, int8_t>,
                      powers,
                      &kScalarTuneOps};

}  // namespace empu
