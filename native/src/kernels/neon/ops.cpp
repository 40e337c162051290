// Kernel table for ARM NEON with its dot product of signed bytes: one register holds four of a tile's 16 rows. Kernels
// not defined here are the scalar ones, which the compiler vectorises.
#include "kernels/scalar/ops.hpp"

#include <arm_neon.h>

namespace empu {
extern const Ops kNeonOps;

namespace {

constexpr int kQuarter = 4;          // rows in a register
constexpr int kRegisters = 2;        // for half a tile
constexpr int kPrefetch = 2 * 1024;  // prefetch distance in bytes

inline float32x4_t load_halves(const uint8_t* from) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(from))); }

// Add to each of four rows the products of its four weights and the four activations in lane `Lane` of `a`.
template <int Lane>
inline int32x4_t add_dot(int32x4_t sum, int8x16_t weights, int8x16_t a) {
    return vdotq_laneq_s32(sum, weights, a, Lane);
}

// The activations of a group: columns 0 to 15, and 16 to 31.
struct Group {
    int8x16_t low, high;
};

inline Group load_group(const int8_t* from) { return {vld1q_s8(from), vld1q_s8(from + 16)}; }

template <GroupPart P, int T, int Line>
inline void add_line_q4(const uint8_t* weights, const Group (&a)[T], int32x4_t (&dot)[T][kRegisters]) {
    __builtin_prefetch(weights + kPrefetch + 64 * Line);
    for (int r = 0; r < kRegisters; ++r) {
        const uint8x16_t bytes = vld1q_u8(weights + 64 * Line + 16 * r);
        const int8x16_t low = vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15)));
        const int8x16_t high = vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4));
        for (int t = 0; t < T; ++t) {
            if constexpr (P != GroupPart::SecondHalf) dot[t][r] = add_dot<Line>(dot[t][r], low, a[t].low);
            if constexpr (P != GroupPart::FirstHalf) dot[t][r] = add_dot<Line>(dot[t][r], high, a[t].high);
        }
    }
}

template <int T, int Line>
inline void add_line_q8(const uint8_t* weights, const Group (&a)[T], int32x4_t (&dot)[T][kRegisters]) {
    __builtin_prefetch(weights + kPrefetch + 64 * Line);
    for (int r = 0; r < kRegisters; ++r) {
        // Values are stored with 128 added: flipping the highest bit gives the signed value.
        const int8x16_t values = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(weights + 64 * Line + 16 * r), vdupq_n_u8(128)));
        for (int t = 0; t < T; ++t) {
            dot[t][r] = add_dot<Line % 4>(dot[t][r], values, Line < 4 ? a[t].low : a[t].high);
        }
    }
}

template <WeightFormat F, GroupPart P, int T>
inline void add_half_tile_dots(const uint8_t* weights, const Group (&a)[T], int32x4_t (&dot)[T][kRegisters]) {
    if constexpr (F == WeightFormat::Q8) {
        if constexpr (P != GroupPart::SecondHalf) {
            add_line_q8<T, 0>(weights, a, dot);
            add_line_q8<T, 1>(weights, a, dot);
            add_line_q8<T, 2>(weights, a, dot);
            add_line_q8<T, 3>(weights, a, dot);
        }
        if constexpr (P != GroupPart::FirstHalf) {
            add_line_q8<T, 4>(weights, a, dot);
            add_line_q8<T, 5>(weights, a, dot);
            add_line_q8<T, 6>(weights, a, dot);
            add_line_q8<T, 7>(weights, a, dot);
        }
    } else {
        add_line_q4<P, T, 0>(weights, a, dot);
        add_line_q4<P, T, 1>(weights, a, dot);
        add_line_q4<P, T, 2>(weights, a, dot);
        add_line_q4<P, T, 3>(weights, a, dot);
    }
}

// Where one group of half a tile (rows from 8 * half on) is stored.
struct GroupAddress {
    const uint8_t* values;
    const uint8_t* scales;
    size_t group;  // index of the first token's group among all tokens' groups
};

// Add the products of a group, or half a group, to the sums of eight rows for `T` tokens. Q8 values become signed when
// they are loaded; the offset of Q4Symmetric is in the initial value.
template <WeightFormat F, GroupPart P, int T>
inline void add_group_part(const GroupAddress& address, const Activations& activations,
                           float32x4_t (&sums)[T][kRegisters]) {
    constexpr int kOffset = F == WeightFormat::Q4Symmetric ? 8 : 0;
    const size_t groups = (size_t)activations.groups();
    Group a[T];
    size_t index[T];
    int32x4_t dot[T][kRegisters];
    for (int t = 0; t < T; ++t) {
        const size_t group = address.group + (size_t)t * groups;
        index[t] = P == GroupPart::Whole ? group : 2 * group + (P == GroupPart::SecondHalf ? 1 : 0);
        a[t] = load_group(activations.quantised + group * kGroupSize);
        for (int32x4_t& sum : dot[t]) sum = vdupq_n_s32(-kOffset * activations.int_sums[index[t]]);
    }
    add_half_tile_dots<F, P, T>(address.values, a, dot);
    for (int r = 0; r < kRegisters; ++r) {
        const float32x4_t scale = load_halves(address.scales + 8 * r);
        for (int t = 0; t < T; ++t) {
            if constexpr (F == WeightFormat::Q4) {
                sums[t][r] = vfmaq_n_f32(sums[t][r], load_halves(address.scales + 32 + 8 * r),
                                         activations.scaled_sums[index[t]]);
            }
            sums[t][r] =
                vfmaq_f32(sums[t][r], vmulq_n_f32(vcvtq_f32_s32(dot[t][r]), activations.scales[index[t]]), scale);
        }
    }
}

template <WeightFormat F, int T>
inline void add_group(const GroupAddress& address, const Activations& activations, float32x4_t (&sums)[T][kRegisters]) {
    if (activations.half_groups) {
        add_group_part<F, GroupPart::FirstHalf, T>(address, activations, sums);
        add_group_part<F, GroupPart::SecondHalf, T>(address, activations, sums);
    } else {
        add_group_part<F, GroupPart::Whole, T>(address, activations, sums);
    }
}

// Each of these sums half a tile (rows from 8 * half on) for `T` tokens.
template <int T>
void half_tile_q4(const uint8_t* tile, int half, const Activations& activations, int token,
                  float32x4_t (&sums)[T][kRegisters]) {
    const size_t first = (size_t)token * (size_t)activations.groups();
    for (int group = 0; group < activations.groups(); ++group, tile += kQ4GroupBytes) {
        add_group<WeightFormat::Q4, T>({tile + 32 * half, tile + 256 + 16 * half, first + (size_t)group}, activations,
                                       sums);
    }
}

template <WeightFormat F, int T>
void half_tile_pairs(const uint8_t* tile, int half, const Activations& activations, int token,
                     float32x4_t (&sums)[T][kRegisters]) {
    constexpr size_t kValueBytes = F == WeightFormat::Q8 ? kQ8ValueBytes : kQ4ValueBytes;
    const size_t first = (size_t)token * (size_t)activations.groups();
    for (int group = 0; group < activations.groups(); ++group) {
        const uint8_t* scales = tile + scales_offset(kValueBytes, activations.groups(), group);
        add_group<F, T>(
            {tile + values_offset(kValueBytes, group) + 32 * half, scales + 16 * half, first + (size_t)group},
            activations, sums);
    }
}

template <int T>
void half_tile_float32(const uint8_t* tile, int half, const Activations& activations, int token,
                       float32x4_t (&sums)[T][kRegisters]) {
    const float* weights = (const float*)tile + kQuarter * kRegisters * half;
    const float* x = activations.floats + (size_t)token * (size_t)activations.stride;
    for (int column = 0; column < activations.cols; ++column, weights += kLanes) {
        for (int r = 0; r < kRegisters; ++r) {
            const float32x4_t row = vld1q_f32(weights + kQuarter * r);
            for (int t = 0; t < T; ++t) {
                sums[t][r] = vfmaq_n_f32(sums[t][r], row, x[(size_t)t * (size_t)activations.stride + (size_t)column]);
            }
        }
    }
}

// The products of one tile with `T` tokens: (T, 16).
template <int T>
void simd_matmul_tile(const PackedMatrix& matrix, const uint8_t* tile, const Activations& activations, int token,
                      float (&out)[T][kLanes]) {
    for (int half = 0; half < 2; ++half) {
        float32x4_t sums[T][kRegisters];
        for (int t = 0; t < T; ++t) {
            for (float32x4_t& sum : sums[t]) sum = vdupq_n_f32(0);
        }
        if (matrix.format == WeightFormat::Q4) half_tile_q4<T>(tile, half, activations, token, sums);
        if (matrix.format == WeightFormat::Q4Symmetric)
            half_tile_pairs<WeightFormat::Q4Symmetric, T>(tile, half, activations, token, sums);
        if (matrix.format == WeightFormat::Q8)
            half_tile_pairs<WeightFormat::Q8, T>(tile, half, activations, token, sums);
        if (matrix.format == WeightFormat::Float32) half_tile_float32<T>(tile, half, activations, token, sums);
        for (int t = 0; t < T; ++t) {
            for (int r = 0; r < kRegisters; ++r) vst1q_f32(out[t] + kQuarter * (kRegisters * half + r), sums[t][r]);
        }
    }
}

constexpr int kMaxTokens = 4;

template <int T>
void store_tile(const PackedMatrix& matrix, int tile, const Activations& activations, int token, float* out, size_t ld,
                Store store) {
    float sums[T][kLanes];
    simd_matmul_tile<T>(matrix, matrix.data + matrix.tile_bytes * (size_t)tile, activations, token, sums);
    for (int t = 0; t < T; ++t) {
        float* output = out + (size_t)(token + t) * ld + (size_t)tile * kLanes;
        for (int l = 0; l < kLanes; ++l) output[l] = store == Store::Add ? output[l] + sums[t][l] : sums[t][l];
    }
}

void simd_matmul(const TileRange& tiles, const Activations& activations, int tokens, float* out, size_t ld,
                 Store store) {
    for (int tile = tiles.begin; tile < tiles.end; ++tile) {
        int token = 0;
        for (; token + kMaxTokens <= tokens; token += kMaxTokens) {
            store_tile<kMaxTokens>(*tiles.matrix, tile, activations, token, out, ld, store);
        }
        for (; token < tokens; ++token) store_tile<1>(*tiles.matrix, tile, activations, token, out, ld, store);
    }
}

template <int T>
void store_swiglu_tile(const PackedMatrix& matrix, const PackedMatrix& up, int tile, const Activations& activations,
                       int token, float* out, size_t ld) {
    const size_t offset = matrix.tile_bytes * (size_t)tile;
    float gates[T][kLanes], ups[T][kLanes];
    simd_matmul_tile<T>(matrix, matrix.data + offset, activations, token, gates);
    simd_matmul_tile<T>(up, up.data + offset, activations, token, ups);
    for (int t = 0; t < T; ++t) {
        swiglu(gates[t], ups[t], kLanes);
        memcpy(out + (size_t)(token + t) * ld + (size_t)tile * kLanes, gates[t], sizeof gates[t]);
    }
}

void simd_matmul_swiglu(const TileRange& tiles, const PackedMatrix& up, const Activations& activations, int tokens,
                        float* out, size_t ld) {
    for (int tile = tiles.begin; tile < tiles.end; ++tile) {
        int token = 0;
        for (; token + kMaxTokens <= tokens; token += kMaxTokens) {
            store_swiglu_tile<kMaxTokens>(*tiles.matrix, up, tile, activations, token, out, ld);
        }
        for (; token < tokens; ++token) store_swiglu_tile<1>(*tiles.matrix, up, tile, activations, token, out, ld);
    }
}

// Four pairs of cache elements.
struct Pairs {
    float32x4_t first, second;
};

inline Pairs load_pairs(const uint16_t* from) {
    const uint32x4_t pair_bits = vreinterpretq_u32_u16(vld1q_u16(from));
    return {vreinterpretq_f32_u32(vshlq_n_u32(pair_bits, 16)),
            vreinterpretq_f32_u32(vandq_u32(pair_bits, vdupq_n_u32(0xffff0000u)))};
}

inline Pairs load_pairs(const int8_t* from) {
    const int32x4_t pair_bits = vreinterpretq_s32_s16(vmovl_s8(vld1_s8(from)));
    return {vcvtq_f32_s32(vshrq_n_s32(vshlq_n_s32(pair_bits, 16), 16)), vcvtq_f32_s32(vshrq_n_s32(pair_bits, 16))};
}

inline float32x4_t add_pairs(float32x4_t sum, const Pairs& pairs, const float* factors) {
    return vfmaq_n_f32(vfmaq_n_f32(sum, pairs.second, factors[1]), pairs.first, factors[0]);
}

// Scores of one query for the 64 keys of a block, four at a time.
template <typename Element>
void simd_score(const float* q, const Element* keys, int head_dim, float* scores) {
    float32x4_t sums[kBlockKeys / kQuarter];
    for (float32x4_t& sum : sums) sum = vdupq_n_f32(0);
    for (int d = 0; d < head_dim; d += 2, keys += 2 * kBlockKeys) {
        for (int i = 0; i < kBlockKeys / kQuarter; ++i) {
            sums[i] = add_pairs(sums[i], load_pairs(keys + 2 * kQuarter * i), q + d);
        }
    }
    for (int i = 0; i < kBlockKeys / kQuarter; ++i) vst1q_f32(scores + kQuarter * i, sums[i]);
}

// Weighted sum of the values of a block, 16 columns at a time.
template <typename Element>
void simd_weigh(const float* weights, const Element* values, int width, float* out) {
    for (int d = 0; d < width; d += kLanes) {
        float32x4_t sums[kLanes / kQuarter];
        for (float32x4_t& sum : sums) sum = vdupq_n_f32(0);
        const Element* row = values + 2 * d;
        for (int key = 0; key < kBlockKeys; key += 2, row += 2 * width) {
            for (int i = 0; i < kLanes / kQuarter; ++i) {
                sums[i] = add_pairs(sums[i], load_pairs(row + 2 * kQuarter * i), weights + key);
            }
        }
        for (int i = 0; i < kLanes / kQuarter; ++i) vst1q_f32(out + d + kQuarter * i, sums[i]);
    }
}

template <typename Block, typename Element>
void simd_attend(const uint16_t* q, int ldq, int queries, const Block& block, int head_dim, const int* low,
                 const int* high, const PartialAttention& out, Store store) {
    attend_each(q, ldq, queries, block, head_dim, low, high, out, store, simd_score<Element>, simd_weigh<Element>);
}

int64_t simd_int8_products(int rounds, int32_t& sum) {
    constexpr int kSums = 8, kRowsTimesColumns = 16;
    int8x16_t a = vdupq_n_s8(15), b = vdupq_n_s8(-3);
    int32x4_t sums[kSums];
#pragma GCC unroll 8
    for (int i = 0; i < kSums; ++i) sums[i] = vdupq_n_s32(0);
    for (int round = 0; round < rounds; ++round) {
#pragma GCC unroll 8  // without it the sums would be in memory
        for (int i = 0; i < kSums; ++i) {
            sums[i] = add_dot<0>(sums[i], a, b);
            asm volatile("" : "+w"(sums[i]), "+w"(a));  // keep the sums separate and inside the loop
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
                      simd_matmul,
                      simd_matmul_swiglu,
                      swiglu,
                      rotate,
                      to_bfloat16,
                      simd_attend<CacheBlockBf16, uint16_t>,
                      merge,
                      normalise,
                      simd_int8_products,
                      to_int8,
                      simd_attend<CacheBlockInt8, int8_t>,
                      softmax_numerators,
                      layer_norm,
                      gelu,
                      &kScalarTuneOps};

}  // namespace empu
