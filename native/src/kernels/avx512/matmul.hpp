// Quantisation of activations and products with packed weights, with AVX-512 VNNI. One zmm register holds one tile's 16
// rows, or 16 elements of a row.
#pragma once

#include "kernels/avx512/vector.hpp"

namespace empu {
namespace {

constexpr int kMaxTokens = 8;            // that can be multiplied in one sweep over the weights
constexpr int kTokensPerSweep = 6;       // of a larger batch: more sums would not stay in registers
constexpr size_t kPrefetch = 16 * 1024;  // prefetch distance in bytes with more than one token
template <int T>
constexpr auto kPrefetchHint = T == 1 ? _MM_HINT_T0 : _MM_HINT_T1;  // with more tokens, the first-level cache is in use

inline __m512i broadcast_4_bytes(const int8_t* from) {
    int32_t four;
    memcpy(&four, from, sizeof four);
    return _mm512_set1_epi32(four);
}

void simd_quantise(const float* x, const Activations& activations, int token, int begin, int end) {
    const size_t first = (size_t)token * (size_t)activations.groups();
    for (int group = begin; group < end; ++group, x += kGroupSize) {
        int8_t* out = activations.quantised + (first + (size_t)group) * kGroupSize;
        const __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + kLanes);
        const __m512 magnitudes_a = _mm512_abs_ps(a), magnitudes_b = _mm512_abs_ps(b);
        const float max_a =
            largest_lane(activations.half_groups ? magnitudes_a : _mm512_max_ps(magnitudes_a, magnitudes_b));
        const float max_b = activations.half_groups ? largest_lane(magnitudes_b) : max_a;
        const auto quantised = [](__m512 half, float max) {
            return _mm512_cvtps_epi32(_mm512_mul_ps(half, _mm512_set1_ps(max > 0 ? 127.0f / max : 0.0f)));
        };
        const __m512i low = quantised(a, max_a), high = quantised(b, max_b);
        _mm_storeu_si128((__m128i*)out, _mm512_cvtepi32_epi8(low));
        _mm_storeu_si128((__m128i*)(out + kLanes), _mm512_cvtepi32_epi8(high));
        if (activations.half_groups) {
            store_scale(activations, token, 2 * group, max_a, _mm512_reduce_add_epi32(low));
            store_scale(activations, token, 2 * group + 1, max_b, _mm512_reduce_add_epi32(high));
        } else {
            store_scale(activations, token, group, max_a, _mm512_reduce_add_epi32(_mm512_add_epi32(low, high)));
        }
    }
}

// Accumulators of `R` tiles for `T` tokens.
template <int R, int T>
struct Sums {
    __m512 values[R][T];
};

template <int R, int T>
inline void clear(Sums<R, T>& sums) {
    for (int r = 0; r < R; ++r) {
        for (int t = 0; t < T; ++t) sums.values[r][t] = _mm512_setzero_ps();
    }
}

// The activations of `T` tokens. Rows of `quantised` are `groups` groups apart.
struct ActivationColumns {
    const int8_t* quantised;
    const float* scales;
    const float* scaled_sums;
    const int32_t* int_sums;
    size_t groups;

    ActivationColumns(const Activations& activations, int token) : groups((size_t)activations.groups()) {
        const size_t first = (size_t)token * groups, entry = activations.half_groups ? 2 * first : first;
        quantised = activations.quantised + first * kGroupSize;
        scales = activations.scales + entry;
        scaled_sums = activations.scaled_sums + entry;
        int_sums = activations.int_sums + entry;
    }

    // Index of the scale and sums of a group, or half a group, of token t.
    template <GroupPart P>
    size_t scale_index(int t, size_t group) const {
        const size_t index = (size_t)t * groups + group;
        return P == GroupPart::Whole ? index : 2 * index + (P == GroupPart::SecondHalf ? 1 : 0);
    }
};

// One of the sweeps over a pair of tiles that a large batch needs. The first sweep waits for memory; the others find
// the weights in a cache. So the others prefetch the next tiles, each its share of the groups.
struct TileSweep {
    const uint8_t* next[2];
    int number, count;
};

// A position in `R` tiles that are read side by side.
template <int R, int T>
class TileStream {
  public:
    const uint8_t* position[R];
    const uint8_t* prefetch[R];  // what to prefetch when `position` is read

    TileStream(const uint8_t* const* tiles, const TileSweep& sweep)
        : sweep_(sweep), tiles_(tiles), next_group_((size_t)sweep.number - 1) {
        for (int r = 0; r < R; ++r) position[r] = tiles[r];
    }

    void set_prefetch(size_t group) {
        if (T == 1 || sweep_.number == 0) {
            for (int r = 0; r < R; ++r) prefetch[r] = position[r] + (T == 1 ? kPrefetchOneToken : kPrefetch);
            return;
        }
        const bool is_mine = group == next_group_;
        next_group_ += is_mine ? (size_t)sweep_.count - 1 : 0;
        for (int r = 0; r < R; ++r) prefetch[r] = is_mine ? sweep_.next[r] + (position[r] - tiles_[r]) : position[r];
    }

    void prefetch_line(size_t offset) const {
        for (int r = 0; r < R; ++r) _mm_prefetch((const char*)prefetch[r] + offset, kPrefetchHint<T>);
    }

    void advance(size_t bytes) {
        for (int r = 0; r < R; ++r) position[r] += bytes;
    }

  private:
    const TileSweep& sweep_;
    const uint8_t* const* tiles_;
    size_t next_group_;
};

// Add to the sums of `R` tiles the products of a group, or half a group, `offset` bytes from `position`, with the
// group's activations `a` of `T` tokens.
template <GroupPart P, int R, int T>
inline __attribute__((always_inline)) void add_dots_q4(const TileStream<R, T>& tiles, size_t offset, const int8_t* a,
                                                       size_t groups, __m512i (&dot)[R][T]) {
    const __m512i low_nibble = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int line = 0; line < 4; ++line) {
        __m512i low[R], high[R];
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) {
            const __m512i bytes = _mm512_load_si512(tiles.position[r] + offset + 64 * line);
            if constexpr (P != GroupPart::SecondHalf) {
                _mm_prefetch((const char*)tiles.prefetch[r] + offset + 64 * line, kPrefetchHint<T>);
            }
            low[r] = _mm512_and_si512(bytes, low_nibble);
            high[r] = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low_nibble);
        }
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) {
            const int8_t* row = a + (size_t)t * groups * kGroupSize;
            const __m512i a_low = broadcast_4_bytes(row + 4 * line), a_high = broadcast_4_bytes(row + 16 + 4 * line);
#pragma GCC unroll 2
            for (int r = 0; r < R; ++r) {
                if constexpr (P != GroupPart::SecondHalf) dot[r][t] = _mm512_dpbusd_epi32(dot[r][t], low[r], a_low);
                if constexpr (P != GroupPart::FirstHalf) dot[r][t] = _mm512_dpbusd_epi32(dot[r][t], high[r], a_high);
            }
        }
    }
}

template <GroupPart P, int R, int T>
inline __attribute__((always_inline)) void add_dots_q8(const TileStream<R, T>& tiles, size_t offset, const int8_t* a,
                                                       size_t groups, __m512i (&dot)[R][T]) {
#pragma GCC unroll 8
    for (int line = P == GroupPart::SecondHalf ? 4 : 0; line < (P == GroupPart::FirstHalf ? 4 : 8); ++line) {
        __m512i weights[R];
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) {
            weights[r] = _mm512_load_si512(tiles.position[r] + offset + 64 * line);
            _mm_prefetch((const char*)tiles.prefetch[r] + offset + 64 * line, kPrefetchHint<T>);
        }
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) {
            const __m512i x = broadcast_4_bytes(a + (size_t)t * groups * kGroupSize + 4 * line);
#pragma GCC unroll 2
            for (int r = 0; r < R; ++r) dot[r][t] = _mm512_dpbusd_epi32(dot[r][t], weights[r], x);
        }
    }
}

// Add to the sums the products of a group, or half a group, whose values and scales are these many bytes from
// `position`.
template <WeightFormat F, GroupPart P, int R, int T>
inline __attribute__((always_inline)) void add_group_part(const TileStream<R, T>& tiles, size_t values, size_t scales,
                                                          const ActivationColumns& columns, size_t group,
                                                          Sums<R, T>& sums) {
    constexpr int kOffset = F == WeightFormat::Q8 ? 128 : F == WeightFormat::Q4Symmetric ? 8 : 0;
    __m512i dot[R][T];
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
        const __m512i start =
            _mm512_set1_epi32(kOffset ? -kOffset * columns.int_sums[columns.scale_index<P>(t, group)] : 0);
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) dot[r][t] = start;
    }
    const int8_t* a = columns.quantised + group * kGroupSize;
    if constexpr (F == WeightFormat::Q8) {
        add_dots_q8<P, R, T>(tiles, values, a, columns.groups, dot);
    } else {
        add_dots_q4<P, R, T>(tiles, values, a, columns.groups, dot);
    }
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) {
        const __m512 scale = load_halves(tiles.position[r] + scales);
        [[maybe_unused]] const __m512 minimum =
            F == WeightFormat::Q4 ? load_halves(tiles.position[r] + scales + kScaleBytes) : scale;
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) {
            const size_t index = columns.scale_index<P>(t, group);
            if constexpr (F == WeightFormat::Q4) {
                sums.values[r][t] =
                    _mm512_fmadd_ps(minimum, _mm512_set1_ps(columns.scaled_sums[index]), sums.values[r][t]);
            }
            const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(dot[r][t]), _mm512_set1_ps(columns.scales[index]));
            sums.values[r][t] = _mm512_fmadd_ps(product, scale, sums.values[r][t]);
        }
    }
}

template <WeightFormat F, bool HalfGroups, int R, int T>
inline __attribute__((always_inline)) void add_group(const TileStream<R, T>& tiles, size_t values, size_t scales,
                                                     const ActivationColumns& columns, size_t group, Sums<R, T>& sums) {
    if constexpr (HalfGroups) {
        add_group_part<F, GroupPart::FirstHalf, R, T>(tiles, values, scales, columns, group, sums);
        add_group_part<F, GroupPart::SecondHalf, R, T>(tiles, values, scales, columns, group, sums);
    } else {
        add_group_part<F, GroupPart::Whole, R, T>(tiles, values, scales, columns, group, sums);
    }
}

template <bool HalfGroups, int R, int T>
inline __attribute__((always_inline)) void matmul_tiles_q4(TileStream<R, T>& tiles, const Activations& activations,
                                                           int token, Sums<R, T>& sums) {
    const ActivationColumns columns(activations, token);
    clear(sums);
    for (size_t group = 0; group < columns.groups; ++group) {
        tiles.set_prefetch(group);
        add_group<WeightFormat::Q4, HalfGroups, R, T>(tiles, 0, kQ4ValueBytes, columns, group, sums);
        tiles.prefetch_line(kQ4ValueBytes);
        tiles.advance(kQ4GroupBytes);
    }
}

template <WeightFormat F, bool HalfGroups, int R, int T>
inline __attribute__((always_inline)) void matmul_tiles_pairs(TileStream<R, T>& tiles, const Activations& activations,
                                                              int token, Sums<R, T>& sums) {
    constexpr size_t kValueBytes = F == WeightFormat::Q8 ? kQ8ValueBytes : kQ4ValueBytes;
    const ActivationColumns columns(activations, token);
    clear(sums);
    const size_t in_pairs = columns.groups / 2 * 2;
    size_t group = 0;
    while (group < in_pairs) {
        tiles.set_prefetch(group);
        if constexpr (T <= 2) {  // both groups in one iteration, where the code stays small
            add_group<F, HalfGroups, R, T>(tiles, 0, 2 * kValueBytes, columns, group, sums);
            add_group<F, HalfGroups, R, T>(tiles, kValueBytes, 2 * kValueBytes + kScaleBytes, columns, group + 1, sums);
            tiles.prefetch_line(2 * kValueBytes);
            tiles.advance(pair_bytes(kValueBytes));
            group += 2;
        } else {
            const bool second = group % 2;
            add_group<F, HalfGroups, R, T>(tiles, 0, second ? kValueBytes + kScaleBytes : 2 * kValueBytes, columns,
                                           group, sums);
            tiles.advance(second ? kValueBytes + 2 * kScaleBytes : kValueBytes);
            ++group;
        }
    }
    if (group == columns.groups) return;
    tiles.set_prefetch(group);
    add_group<F, HalfGroups, R, T>(tiles, 0, kValueBytes, columns, group, sums);
}

template <int R, int T>
inline __attribute__((always_inline)) void matmul_tiles_float32(const uint8_t* const* tiles,
                                                                const Activations& activations, int token,
                                                                Sums<R, T>& sums) {
    const float* x = activations.floats + (size_t)token * (size_t)activations.stride;
    clear(sums);
    for (int column = 0; column < activations.cols; ++column) {
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) {
            const __m512 weights = _mm512_load_ps((const float*)tiles[r] + (size_t)column * kLanes);
#pragma GCC unroll 16
            for (int t = 0; t < T; ++t) {
                const __m512 value = _mm512_set1_ps(x[(size_t)t * (size_t)activations.stride + (size_t)column]);
                sums.values[r][t] = _mm512_fmadd_ps(weights, value, sums.values[r][t]);
            }
        }
    }
}

template <WeightFormat F, bool HalfGroups, int R, int T>
inline __attribute__((always_inline)) void matmul_tiles(const uint8_t* const* tiles, const Activations& activations,
                                                        int token, const TileSweep& sweep, Sums<R, T>& sums) {
    if constexpr (F == WeightFormat::Float32) {
        matmul_tiles_float32<R, T>(tiles, activations, token, sums);
    } else {
        TileStream<R, T> stream(tiles, sweep);
        if constexpr (F == WeightFormat::Q4) {
            matmul_tiles_q4<HalfGroups, R, T>(stream, activations, token, sums);
        } else {
            matmul_tiles_pairs<F, HalfGroups, R, T>(stream, activations, token, sums);
        }
    }
}

struct Output {
    float* out;  // of the first tile and token 0
    size_t ld;
    Store store;
};

template <WeightFormat F, bool HalfGroups, int R, int T>
__attribute__((noinline)) void store_tiles(const uint8_t* const* tiles, const Activations& activations, int token,
                                           const TileSweep& sweep, const Output& output) {
    Sums<R, T> sums;
    matmul_tiles<F, HalfGroups, R, T>(tiles, activations, token, sweep, sums);
    for (int t = 0; t < T; ++t) {
        for (int r = 0; r < R; ++r) {
            float* out = output.out + (size_t)(token + t) * output.ld + (size_t)r * kLanes;
            const __m512 sum = sums.values[r][t];
            _mm512_storeu_ps(out, output.store == Store::Add ? _mm512_add_ps(_mm512_loadu_ps(out), sum) : sum);
        }
    }
}

template <WeightFormat F, int R, int T>
__attribute__((noinline)) void store_swiglu_tiles(const uint8_t* const* tiles, const Activations& activations,
                                                  int token, const TileSweep& sweep, const Output& output) {
    static_assert(R == 2);
    Sums<R, T> sums;
    matmul_tiles<F, false, R, T>(tiles, activations, token, sweep, sums);
    for (int t = 0; t < T; ++t) {
        _mm512_storeu_ps(output.out + (size_t)(token + t) * output.ld,
                         _mm512_mul_ps(simd_silu(sums.values[0][t]), sums.values[1][t]));
    }
}

using TileKernel = void (*)(const uint8_t* const* tiles, const Activations& activations, int token,
                            const TileSweep& sweep, const Output& output);

template <WeightFormat F, bool HalfGroups, int R>
constexpr TileKernel kStoreTiles[kMaxTokens + 1] = {nullptr,
                                                    store_tiles<F, HalfGroups, R, 1>,
                                                    store_tiles<F, HalfGroups, R, 2>,
                                                    store_tiles<F, HalfGroups, R, 3>,
                                                    store_tiles<F, HalfGroups, R, 4>,
                                                    store_tiles<F, HalfGroups, R, 5>,
                                                    store_tiles<F, HalfGroups, R, 6>,
                                                    store_tiles<F, HalfGroups, R, 7>,
                                                    store_tiles<F, HalfGroups, R, 8>};
template <WeightFormat F>
constexpr TileKernel kStoreSwigluTiles[kMaxTokens + 1] = {nullptr,
                                                          store_swiglu_tiles<F, 2, 1>,
                                                          store_swiglu_tiles<F, 2, 2>,
                                                          store_swiglu_tiles<F, 2, 3>,
                                                          store_swiglu_tiles<F, 2, 4>,
                                                          store_swiglu_tiles<F, 2, 5>,
                                                          store_swiglu_tiles<F, 2, 6>,
                                                          store_swiglu_tiles<F, 2, 7>,
                                                          store_swiglu_tiles<F, 2, 8>};

// `next`: distance in bytes to the tiles that come next.
void sweep_tokens(const TileKernel* kernels, const uint8_t* const* tiles, size_t next, const Activations& activations,
                  int tokens, const Output& output) {
    const int halves = tokens > kTokensPerSweep && tokens <= kMaxTokens ? 2 : 1;
    const int sweeps =
        halves + (tokens > kMaxTokens ? (tokens - kMaxTokens + kTokensPerSweep - 1) / kTokensPerSweep : 0);
    TileSweep sweep = {{tiles[0] + next, tiles[1] + next}, 0, sweeps};
    for (int token = 0; token < tokens; ++sweep.number) {
        const int left = tokens - token;
        const int count = left > kMaxTokens ? kTokensPerSweep : sweep.number == 0 ? (left + halves - 1) / halves : left;
        kernels[count](tiles, activations, token, sweep, output);
        token += count;
    }
}

template <WeightFormat F, bool HalfGroups>
void matmul_range(const TileRange& tiles, const Activations& activations, int tokens, float* out, size_t ld,
                  Store store) {
    const PackedMatrix& matrix = *tiles.matrix;
    const uint8_t* start = matrix.data;
    for (int tile = tiles.begin; tile < tiles.end;) {
        const uint8_t* pair[2] = {start + matrix.tile_bytes * (size_t)tile,
                                  start + matrix.tile_bytes * (size_t)(tile + 1)};
        const Output output = {out + (size_t)tile * kLanes, ld, store};
        const bool is_pair = tile + 1 < tiles.end && tokens > 1;  // with one token, one stream from memory is fastest
        const size_t next = tile + 2 < tiles.end ? 2 * matrix.tile_bytes : 0;
        sweep_tokens(is_pair ? kStoreTiles<F, HalfGroups, 2> : kStoreTiles<F, HalfGroups, 1>, pair, next, activations,
                     tokens, output);
        tile += is_pair ? 2 : 1;
    }
}

template <WeightFormat F>
void matmul_format(const TileRange& tiles, const Activations& activations, int tokens, float* out, size_t ld,
                   Store store) {
    if (activations.half_groups) return matmul_range<F, true>(tiles, activations, tokens, out, ld, store);
    matmul_range<F, false>(tiles, activations, tokens, out, ld, store);
}

void simd_matmul(const TileRange& tiles, const Activations& activations, int tokens, float* out, size_t ld,
                 Store store) {
    switch (tiles.matrix->format) {
        case WeightFormat::Q4:
            return matmul_format<WeightFormat::Q4>(tiles, activations, tokens, out, ld, store);
        case WeightFormat::Q4Symmetric:
            return matmul_format<WeightFormat::Q4Symmetric>(tiles, activations, tokens, out, ld, store);
        case WeightFormat::Q8:
            return matmul_format<WeightFormat::Q8>(tiles, activations, tokens, out, ld, store);
        case WeightFormat::Float32:
            return matmul_range<WeightFormat::Float32, false>(tiles, activations, tokens, out, ld, store);
    }
}

void simd_matmul_swiglu(const TileRange& gate, const PackedMatrix& up, const Activations& activations, int tokens,
                        float* out, size_t ld) {
    const WeightFormat format = gate.matrix->format;
    const TileKernel* kernels = format == WeightFormat::Q4            ? kStoreSwigluTiles<WeightFormat::Q4>
                                : format == WeightFormat::Q4Symmetric ? kStoreSwigluTiles<WeightFormat::Q4Symmetric>
                                : format == WeightFormat::Q8          ? kStoreSwigluTiles<WeightFormat::Q8>
                                                                      : kStoreSwigluTiles<WeightFormat::Float32>;
    for (int tile = gate.begin; tile < gate.end; ++tile) {
        const size_t offset = gate.matrix->tile_bytes * (size_t)tile;
        const uint8_t* pair[2] = {gate.matrix->data + offset, up.data + offset};
        const size_t next = tile + 1 < gate.matrix->tiles ? gate.matrix->tile_bytes : 0;
        sweep_tokens(kernels, pair, next, activations, tokens, {out + (size_t)tile * kLanes, ld, Store::Set});
    }
}

}  // namespace
}  // namespace empu
