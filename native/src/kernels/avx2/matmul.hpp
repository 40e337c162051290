// Quantisation of activations and products with packed weights, with AVX2 or, where EMPU_AVX_VNNI is defined, its dot
// product. Two ymm registers hold one tile's 16 rows.
#pragma once

#include "kernels/avx2/vector.hpp"

namespace empu {
namespace {

constexpr size_t kPrefetch = 8 * 1024;  // prefetch distance in bytes with more than one token

template <int T>
inline void prefetch(const uint8_t* weights) {
    _mm_prefetch((const char*)weights + (T == 1 ? kPrefetchOneToken : kPrefetch), _MM_HINT_T0);
}

inline __m256i load(const uint8_t* from) { return _mm256_loadu_si256((const __m256i*)from); }

inline __m256i broadcast_4_bytes(const int8_t* from) {
    int32_t four;
    memcpy(&four, from, sizeof four);
    return _mm256_set1_epi32(four);
}

// Half a group, quantised, in 16 bits.
inline __m256i round_to_int16(const __m256 (&half)[2], float max_magnitude) {
    const __m256 inverse = _mm256_set1_ps(max_magnitude > 0 ? 127.0f / max_magnitude : 0.0f);
    const __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(half[0], inverse));
    const __m256i high = _mm256_cvtps_epi32(_mm256_mul_ps(half[1], inverse));
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
}

inline int32_t sum_int16(__m256i values) {
    const __m256i pairs = _mm256_madd_epi16(values, _mm256_set1_epi16(1));
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

void simd_quantise(const float* x, const Activations& activations, int token, int begin, int end) {
    const size_t first = (size_t)token * (size_t)activations.groups();
    for (int group = begin; group < end; ++group, x += kGroupSize) {
        int8_t* out = activations.quantised + (first + (size_t)group) * kGroupSize;
        const __m256 a[] = {_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8)};
        const __m256 b[] = {_mm256_loadu_ps(x + 16), _mm256_loadu_ps(x + 24)};
        const __m256 magnitudes_a = _mm256_max_ps(magnitudes(a[0]), magnitudes(a[1]));
        const __m256 magnitudes_b = _mm256_max_ps(magnitudes(b[0]), magnitudes(b[1]));
        const float max_a =
            largest_lane(activations.half_groups ? magnitudes_a : _mm256_max_ps(magnitudes_a, magnitudes_b));
        const float max_b = activations.half_groups ? largest_lane(magnitudes_b) : max_a;
        const __m256i low = round_to_int16(a, max_a), high = round_to_int16(b, max_b);
        _mm256_storeu_si256((__m256i*)out, _mm256_permute4x64_epi64(_mm256_packs_epi16(low, high), 0xd8));
        if (activations.half_groups) {
            store_scale(activations, token, 2 * group, max_a, sum_int16(low));
            store_scale(activations, token, 2 * group + 1, max_b, sum_int16(high));
        } else {
            store_scale(activations, token, group, max_a, sum_int16(_mm256_add_epi16(low, high)));
        }
    }
}

constexpr int kMaxTokens = 4;  // at once: more sums would not stay in registers

#if defined(EMPU_AVX_VNNI)

// Add to each of eight rows the products of its four weights (0 to 255) and the four values of `a` (-127 to 127).
inline __m256i add_products(__m256i sum, __m256i weights, __m256i a) {
    return _mm256_dpbusd_avx_epi32(sum, weights, a);
}
template <int Factor>
inline __m256i widen_sums(__m256i sum) {
    return sum;
}

#else

// The same for weights of at most 15, in two 16-bit sums per row, which can hold the products of a whole group.
inline __m256i add_products(__m256i sum, __m256i weights, __m256i a) {
    sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(weights, a));
    asm("" : "+x"(sum));  // otherwise the compiler spills many products to add them in a tree
    return sum;
}
template <int Factor>
inline __m256i widen_sums(__m256i sum) {
    return _mm256_madd_epi16(sum, _mm256_set1_epi16(Factor));
}

#endif

inline __m256i low_nibbles(__m256i bytes) { return _mm256_and_si256(bytes, _mm256_set1_epi8(15)); }
inline __m256i high_nibbles(__m256i bytes) { return low_nibbles(_mm256_srli_epi16(bytes, 4)); }

// The sums of a tile's 16 rows, in two halves, for `T` tokens, and the integer products of one group.
template <int T>
struct Sums {
    __m256 halves[2][T];
};
template <int T>
struct Dots {
    __m256i halves[2][T];
};

template <int T>
inline void clear(Sums<T>& sums) {
    for (int half = 0; half < 2; ++half) {
        for (int t = 0; t < T; ++t) sums.halves[half][t] = _mm256_setzero_ps();
    }
}

// The products of a group's weights, or of half of them, with the activations of `T` tokens, `stride` apart.
template <GroupPart P, int T>
inline __attribute__((always_inline)) void dots_q4(const uint8_t* weights, const int8_t* a, size_t stride,
                                                   Dots<T>& dots) {
    for (int half = 0; half < 2; ++half) {
        for (int t = 0; t < T; ++t) dots.halves[half][t] = _mm256_setzero_si256();
    }
#pragma GCC unroll 4
    for (int line = 0; line < 4; ++line) {
        const __m256i bytes[] = {load(weights + 64 * line), load(weights + 64 * line + 32)};
        if constexpr (P != GroupPart::SecondHalf) prefetch<T>(weights + 64 * line);
        const __m256i low[] = {low_nibbles(bytes[0]), low_nibbles(bytes[1])};
        const __m256i high[] = {high_nibbles(bytes[0]), high_nibbles(bytes[1])};
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
            const int8_t* row = a + (size_t)t * stride + 4 * line;
#pragma GCC unroll 2
            for (int half = 0; half < 2; ++half) {
                __m256i& dot = dots.halves[half][t];
                if constexpr (P != GroupPart::SecondHalf) dot = add_products(dot, low[half], broadcast_4_bytes(row));
                if constexpr (P != GroupPart::FirstHalf)
                    dot = add_products(dot, high[half], broadcast_4_bytes(row + 16));
            }
        }
    }
    for (int half = 0; half < 2; ++half) {
        for (int t = 0; t < T; ++t) dots.halves[half][t] = widen_sums<1>(dots.halves[half][t]);
    }
}

// The same for eight rows.
template <GroupPart P, bool Prefetch, int T>
inline __attribute__((always_inline)) void dots_q8(const uint8_t* weights, const int8_t* a, size_t stride,
                                                   __m256i (&dots)[T]) {
    __m256i low[T], high[T];
    for (int t = 0; t < T; ++t) low[t] = high[t] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int line = P == GroupPart::SecondHalf ? 4 : 0; line < (P == GroupPart::FirstHalf ? 4 : 8); ++line) {
        const __m256i bytes = load(weights + 64 * line);
        if constexpr (Prefetch) prefetch<T>(weights + 64 * line);
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
            const __m256i x = broadcast_4_bytes(a + (size_t)t * stride + 4 * line);
#if defined(EMPU_AVX_VNNI)
            low[t] = add_products(low[t], bytes, x);
#else
            low[t] = add_products(low[t], low_nibbles(bytes), x);
            high[t] = add_products(high[t], high_nibbles(bytes), x);
#endif
        }
    }
    for (int t = 0; t < T; ++t) dots[t] = _mm256_add_epi32(widen_sums<1>(low[t]), widen_sums<16>(high[t]));
}

// Finds the scale and sums of a group, or half a group, of token t.
struct ScaleIndex {
    const Activations& activations;
    size_t groups;
    size_t first;  // of the first token

    ScaleIndex(const Activations& of, int token)
        : activations(of), groups((size_t)of.groups()), first((size_t)token * groups) {}

    template <GroupPart P>
    size_t of(int t, size_t group) const {
        const size_t entry = first + (size_t)t * groups + group;
        return P == GroupPart::Whole ? entry : 2 * entry + (P == GroupPart::SecondHalf ? 1 : 0);
    }
};

// Add the products of eight rows for one token; `index` is the entry of its scale and sums.
template <WeightFormat F>
inline __m256 add_product(__m256 sum, __m256i dot, const uint8_t* scales, const Activations& activations,
                          size_t index) {
    constexpr int kOffset = F == WeightFormat::Q8 ? 128 : F == WeightFormat::Q4Symmetric ? 8 : 0;
    if constexpr (kOffset != 0) dot = _mm256_sub_epi32(dot, _mm256_set1_epi32(kOffset * activations.int_sums[index]));
    if constexpr (F == WeightFormat::Q4) {
        sum = _mm256_fmadd_ps(load_halves(scales + kScaleBytes), _mm256_set1_ps(activations.scaled_sums[index]), sum);
    }
    const __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(dot), _mm256_set1_ps(activations.scales[index]));
    return _mm256_fmadd_ps(product, load_halves(scales), sum);
}

// Add the products of a group, or of half of it.
template <WeightFormat F, GroupPart P, int T>
inline __attribute__((always_inline)) void add_group_part(const uint8_t* weights, const uint8_t* scales,
                                                          const ScaleIndex& index, size_t group, Sums<T>& sums) {
    const int8_t* a = index.activations.quantised + (index.first + group) * kGroupSize;
    const size_t stride = index.groups * kGroupSize;
    Dots<T> dots;
    const auto add = [&](int half, int t) {
        sums.halves[half][t] = add_product<F>(sums.halves[half][t], dots.halves[half][t], scales + 16 * half,
                                              index.activations, index.of<P>(t, group));
    };
    if constexpr (F == WeightFormat::Q8) {
        dots_q8<P, true, T>(weights, a, stride, dots.halves[0]);
        for (int t = 0; t < T; ++t) add(0, t);
        asm("" : "+r"(a));  // otherwise the compiler spills all that was loaded through it
        dots_q8<P, false, T>(weights + 32, a, stride, dots.halves[1]);
        for (int t = 0; t < T; ++t) add(1, t);
    } else {
        dots_q4<P, T>(weights, a, stride, dots);
        for (int t = 0; t < T; ++t) add(0, t), add(1, t);
    }
}

template <WeightFormat F, bool HalfGroups, int T>
inline __attribute__((always_inline)) void add_groups(const uint8_t* tile, const Activations& activations, int token,
                                                      Sums<T>& sums) {
    constexpr size_t kValueBytes = F == WeightFormat::Q8 ? kQ8ValueBytes : kQ4ValueBytes;
    const ScaleIndex index(activations, token);
    for (int group = 0; group < activations.groups(); ++group) {
        const size_t values = F == WeightFormat::Q4 ? (size_t)group * kQ4GroupBytes : values_offset(kValueBytes, group);
        const size_t scales =
            F == WeightFormat::Q4 ? values + kQ4ValueBytes : scales_offset(kValueBytes, activations.groups(), group);
        if constexpr (HalfGroups) {
            add_group_part<F, GroupPart::FirstHalf, T>(tile + values, tile + scales, index, (size_t)group, sums);
            add_group_part<F, GroupPart::SecondHalf, T>(tile + values, tile + scales, index, (size_t)group, sums);
        } else {
            add_group_part<F, GroupPart::Whole, T>(tile + values, tile + scales, index, (size_t)group, sums);
        }
    }
}

template <int T>
inline void add_float32(const uint8_t* tile, const Activations& activations, int token, Sums<T>& sums) {
    const float* weights = (const float*)tile;
    const float* x = activations.floats + (size_t)token * (size_t)activations.stride;
    for (int column = 0; column < activations.cols; ++column, weights += kLanes) {
        const __m256 halves[] = {_mm256_loadu_ps(weights), _mm256_loadu_ps(weights + kVector)};
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
            const __m256 value = _mm256_set1_ps(x[(size_t)t * (size_t)activations.stride + (size_t)column]);
            sums.halves[0][t] = _mm256_fmadd_ps(halves[0], value, sums.halves[0][t]);
            sums.halves[1][t] = _mm256_fmadd_ps(halves[1], value, sums.halves[1][t]);
        }
    }
}

// The products of one tile with `T` tokens.
template <WeightFormat F, bool HalfGroups, int T>
inline void simd_matmul_tile(const PackedMatrix& matrix, int tile, const Activations& activations, int token,
                             float (&out)[T][kLanes]) {
    Sums<T> sums;
    clear(sums);
    if constexpr (F == WeightFormat::Float32) {
        add_float32<T>(matrix.tile(tile), activations, token, sums);
    } else {
        add_groups<F, HalfGroups, T>(matrix.tile(tile), activations, token, sums);
    }
    for (int t = 0; t < T; ++t) {
        _mm256_storeu_ps(out[t], sums.halves[0][t]);
        _mm256_storeu_ps(out[t] + kVector, sums.halves[1][t]);
    }
}

struct Output {
    float* out;
    size_t ld;
    Store store;

    float* at(int token, int tile) const { return out + (size_t)token * ld + (size_t)tile * kLanes; }
};

template <WeightFormat F, bool HalfGroups, int T>
__attribute__((noinline)) void store_tile(const PackedMatrix& matrix, const PackedMatrix&, int tile,
                                          const Activations& activations, int token, const Output& output) {
    float sums[T][kLanes];
    simd_matmul_tile<F, HalfGroups, T>(matrix, tile, activations, token, sums);
    for (int t = 0; t < T; ++t) {
        float* out = output.at(token + t, tile);
        for (int l = 0; l < kLanes; ++l) out[l] = output.store == Store::Add ? out[l] + sums[t][l] : sums[t][l];
    }
}

template <WeightFormat F, bool HalfGroups, int T>
__attribute__((noinline)) void store_swiglu_tile(const PackedMatrix& matrix, const PackedMatrix& up, int tile,
                                                 const Activations& activations, int token, const Output& output) {
    float gates[T][kLanes], ups[T][kLanes];
    simd_matmul_tile<F, HalfGroups, T>(matrix, tile, activations, token, gates);
    simd_matmul_tile<F, HalfGroups, T>(up, tile, activations, token, ups);
    for (int t = 0; t < T; ++t) {
        simd_swiglu(gates[t], ups[t], kLanes);
        memcpy(output.at(token + t, tile), gates[t], sizeof gates[t]);
    }
}

using TileKernel = void (*)(const PackedMatrix& matrix, const PackedMatrix& up, int tile,
                            const Activations& activations, int token, const Output& output);

template <WeightFormat F, bool HalfGroups>
constexpr TileKernel kStoreTile[] = {store_tile<F, HalfGroups, 1>, store_tile<F, HalfGroups, 2>,
                                     store_tile<F, HalfGroups, 3>, store_tile<F, HalfGroups, 4>};
template <WeightFormat F>
constexpr TileKernel kStoreSwigluTile[] = {store_swiglu_tile<F, false, 1>, store_swiglu_tile<F, false, 2>,
                                           store_swiglu_tile<F, false, 3>, store_swiglu_tile<F, false, 4>};

void run_tiles(const TileKernel* kernels, const TileRange& tiles, const PackedMatrix& up,
               const Activations& activations, int tokens, const Output& output) {
    for (int tile = tiles.begin; tile < tiles.end; ++tile) {
        for (int token = 0; token < tokens;) {
            const int count = tokens - token < kMaxTokens ? tokens - token : kMaxTokens;
            kernels[count - 1](*tiles.matrix, up, tile, activations, token, output);
            token += count;
        }
    }
}

template <WeightFormat F>
const TileKernel* store_tile_kernels(const Activations& activations) {
    return activations.half_groups ? kStoreTile<F, true> : kStoreTile<F, false>;
}

void simd_matmul(const TileRange& tiles, const Activations& activations, int tokens, float* out, size_t ld,
                 Store store) {
    const auto run = [&](const TileKernel* kernels) {
        run_tiles(kernels, tiles, *tiles.matrix, activations, tokens, {out, ld, store});
    };
    switch (tiles.matrix->format) {
        case WeightFormat::Q4:
            return run(store_tile_kernels<WeightFormat::Q4>(activations));
        case WeightFormat::Q4Symmetric:
            return run(store_tile_kernels<WeightFormat::Q4Symmetric>(activations));
        case WeightFormat::Q8:
            return run(store_tile_kernels<WeightFormat::Q8>(activations));
        case WeightFormat::Float32:
            return run(kStoreTile<WeightFormat::Float32, false>);
    }
}

void simd_matmul_swiglu(const TileRange& tiles, const PackedMatrix& up, const Activations& activations, int tokens,
                        float* out, size_t ld) {
    const auto run = [&](const TileKernel* kernels) {
        run_tiles(kernels, tiles, up, activations, tokens, {out, ld, Store::Set});
    };
    switch (tiles.matrix->format) {
        case WeightFormat::Q4:
            return run(kStoreSwigluTile<WeightFormat::Q4>);
        case WeightFormat::Q4Symmetric:
            return run(kStoreSwigluTile<WeightFormat::Q4Symmetric>);
        case WeightFormat::Q8:
            return run(kStoreSwigluTile<WeightFormat::Q8>);
        case WeightFormat::Float32:
            return run(kStoreSwigluTile<WeightFormat::Float32>);
    }
}

}  // namespace
}  // namespace empu
