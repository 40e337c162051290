// AVX-512 with VNNI: one zmm register is one tile's 16 rows, or 16 elements of a row.
#include <immintrin.h>

#include "ops_portable.hpp"

namespace empu {
extern const Ops kAvx512Ops;

namespace {

constexpr int kMostTokens = 8;    // that one walk through the weights serves; of more, so many go at once:
constexpr int kTokens = 6;        // more sums than that do not stay in registers
template <int T>
constexpr int kAhead = T == 1 ? 6 * 1024 : 4 * 1024;  // bytes that the weights are fetched before their use

inline __m512 halves(const uint8_t* at) { return _mm512_cvtph_ps(_mm256_load_si256((const __m256i*)at)); }

inline __m512i broadcast4(const int8_t* at) {
    int32_t four;
    memcpy(&four, at, sizeof four);
    return _mm512_set1_epi32(four);
}

inline float add_lanes(__m512 lanes) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps(lanes, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

inline float largest_lane(__m512 lanes) { return _mm512_reduce_max_ps(lanes); }

inline __m512 exp2_wide(__m512 x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-126.0f));
    const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 f = _mm512_sub_ps(x, whole);
    __m512 p = _mm512_set1_ps(1.5403530e-4f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.3333558e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.6181291e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.5504109e-2f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.4022651e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9314718e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, whole);
}

inline __m512 silu_wide(__m512 x) {
    const __m512 power = exp2_wide(_mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(-1.44269504f)));
    const __m512 one = _mm512_set1_ps(1.0f);
    const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    const __m512 top = _mm512_mul_ps(x, _mm512_mask_blend_ps(negative, one, power));
    return _mm512_div_ps(top, _mm512_add_ps(one, power));
}

void wide_rms_norm(const float* x, const float* weight, int n, float eps, float* out) {
    __m512 squares = _mm512_setzero_ps();
    for (int i = 0; i < padded(n); i += kLanes) {
        const __m512 v = _mm512_loadu_ps(x + i);
        squares = _mm512_fmadd_ps(v, v, squares);
    }
    const __m512 scale = _mm512_set1_ps(1.0f / __builtin_sqrtf(add_lanes(squares) / (float)n + eps));
    for (int i = 0; i < padded(n); i += kLanes) {
        const __m512 v = _mm512_mul_ps(_mm512_loadu_ps(x + i), scale);
        _mm512_storeu_ps(out + i, _mm512_mul_ps(v, _mm512_loadu_ps(weight + i)));
    }
}

void wide_quantise(const float* x, const Rows& rows, int token, int begin, int end) {
    const size_t first = (size_t)token * (size_t)rows.groups();
    for (int group = begin; group < end; ++group, x += kGroup) {
        const size_t at = first + (size_t)group;
        const __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + kLanes);
        const float largest = largest_lane(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
        const __m512 inverse = _mm512_set1_ps(largest > 0 ? 127.0f / largest : 0.0f);
        const __m512i low = _mm512_cvtps_epi32(_mm512_mul_ps(a, inverse));
        const __m512i high = _mm512_cvtps_epi32(_mm512_mul_ps(b, inverse));
        _mm_storeu_si128((__m128i*)(rows.numbers + at * kGroup), _mm512_cvtepi32_epi8(low));
        _mm_storeu_si128((__m128i*)(rows.numbers + at * kGroup + kLanes), _mm512_cvtepi32_epi8(high));
        const int32_t total = _mm512_reduce_add_epi32(_mm512_add_epi32(low, high));
        const float scale = largest / 127.0f;
        rows.scales[at] = scale;
        rows.totals[at] = total;
        rows.sums[at] = (float)total * scale;
    }
}

// Accumulators of `R` tiles for `T` tokens.
template <int R, int T>
struct Sums {
    __m512 of[R][T];
};

template <int R, int T>
inline void clear(Sums<R, T>& sums) {
    for (int r = 0; r < R; ++r) {
        for (int t = 0; t < T; ++t) sums.of[r][t] = _mm512_setzero_ps();
    }
}

// The activations of `T` tokens: row t of `numbers` is `groups` groups behind the one before.
struct Columns {
    const int8_t* numbers;
    const float* scales;
    const float* sums;
    const int32_t* totals;
    size_t groups;

    Columns(const Rows& rows, int token) : groups((size_t)rows.groups()) {
        const size_t first = (size_t)token * groups;
        numbers = rows.numbers + first * kGroup;
        scales = rows.scales + first;
        sums = rows.sums + first;
        totals = rows.totals + first;
    }
};

// Adds to the sums of `R` tiles the products of one group's numbers, `offset` bytes from `at`, with the activations
// `a` of `T` tokens.
template <int R, int T>
inline __attribute__((always_inline)) void add_dots_q4(const uint8_t* const* at, size_t offset, const int8_t* a,
                                                       size_t groups, __m512i (&dot)[R][T]) {
    const __m512i low_bits = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int line = 0; line < 4; ++line) {
        __m512i low[R], high[R];
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) {
            const __m512i both = _mm512_load_si512(at[r] + offset + 64 * line);
            _mm_prefetch((const char*)at[r] + offset + kAhead<T> + 64 * line, _MM_HINT_T0);
            low[r] = _mm512_and_si512(both, low_bits);
            high[r] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low_bits);
        }
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) {
            const int8_t* row = a + (size_t)t * groups * kGroup;
            const __m512i a_low = broadcast4(row + 4 * line), a_high = broadcast4(row + 16 + 4 * line);
#pragma GCC unroll 2
            for (int r = 0; r < R; ++r) {
                dot[r][t] = _mm512_dpbusd_epi32(dot[r][t], low[r], a_low);
                dot[r][t] = _mm512_dpbusd_epi32(dot[r][t], high[r], a_high);
            }
        }
    }
}

template <int R, int T>
inline __attribute__((always_inline)) void add_dots_q8(const uint8_t* const* at, size_t offset, const int8_t* a,
                                                       size_t groups, __m512i (&dot)[R][T]) {
#pragma GCC unroll 8
    for (int line = 0; line < 8; ++line) {
        __m512i weights[R];
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) {
            weights[r] = _mm512_load_si512(at[r] + offset + 64 * line);
            _mm_prefetch((const char*)at[r] + offset + kAhead<T> + 64 * line, _MM_HINT_T0);
        }
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) {
            const __m512i x = broadcast4(a + (size_t)t * groups * kGroup + 4 * line);
#pragma GCC unroll 2
            for (int r = 0; r < R; ++r) dot[r][t] = _mm512_dpbusd_epi32(dot[r][t], weights[r], x);
        }
    }
}

template <int R, int T>
inline __attribute__((always_inline)) void tiles_q4(const uint8_t* const* tiles, const Rows& rows, int token,
                                                    Sums<R, T>& sums) {
    const Columns columns(rows, token);
    const size_t groups = columns.groups;
    clear(sums);
    const uint8_t* at[R];
    for (int r = 0; r < R; ++r) at[r] = tiles[r];
    for (size_t group = 0; group < groups; ++group) {
        __m512i dot[R][T];
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
            for (int t = 0; t < T; ++t) dot[r][t] = _mm512_setzero_si512();
        }
        add_dots_q4<R, T>(at, 0, columns.numbers + group * kGroup, groups, dot);
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) {
            const __m512 scale = halves(at[r] + 256), minimum = halves(at[r] + 288);
            _mm_prefetch((const char*)at[r] + kAhead<T> + 256, _MM_HINT_T0);
#pragma GCC unroll 16
            for (int t = 0; t < T; ++t) {
                const size_t of = (size_t)t * groups + group;
                const __m512 sum = _mm512_fmadd_ps(minimum, _mm512_set1_ps(columns.sums[of]), sums.of[r][t]);
                const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(dot[r][t]), _mm512_set1_ps(columns.scales[of]));
                sums.of[r][t] = _mm512_fmadd_ps(product, scale, sum);
            }
            at[r] += kQ4GroupBytes;
        }
    }
}

// One group of a kind in pairs, its numbers and its scales so many bytes from `at`.
template <Kind K, int R, int T>
inline __attribute__((always_inline)) void group_in_pair(const uint8_t* const* at, size_t numbers, size_t scales,
                                                         const Columns& columns, size_t group, Sums<R, T>& sums) {
    constexpr int kOffset = K == Kind::Q8 ? 128 : 8;
    const size_t groups = columns.groups;
    __m512i dot[R][T];
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
        const __m512i start = _mm512_set1_epi32(-kOffset * columns.totals[(size_t)t * groups + group]);
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) dot[r][t] = start;
    }
    const int8_t* a = columns.numbers + group * kGroup;
    if constexpr (K == Kind::Q8) {
        add_dots_q8<R, T>(at, numbers, a, groups, dot);
    } else {
        add_dots_q4<R, T>(at, numbers, a, groups, dot);
    }
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) {
        const __m512 scale = halves(at[r] + scales);
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) {
            const __m512 factor = _mm512_set1_ps(columns.scales[(size_t)t * groups + group]);
            const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(dot[r][t]), factor);
            sums.of[r][t] = _mm512_fmadd_ps(product, scale, sums.of[r][t]);
        }
    }
}

template <Kind K, int R, int T>
inline __attribute__((always_inline)) void tiles_in_pairs(const uint8_t* const* tiles, const Rows& rows, int token,
                                                          Sums<R, T>& sums) {
    constexpr size_t kNumbers = K == Kind::Q8 ? kQ8Numbers : kQ4Numbers;
    const Columns columns(rows, token);
    clear(sums);
    const uint8_t* at[R];
    for (int r = 0; r < R; ++r) at[r] = tiles[r];
    const size_t in_pairs = columns.groups / 2 * 2;
    size_t group = 0;
    while (group < in_pairs) {
        if constexpr (T <= 2) {  // one turn for both, where that is not too much code to be read quickly
            group_in_pair<K, R, T>(at, 0, 2 * kNumbers, columns, group, sums);
            group_in_pair<K, R, T>(at, kNumbers, 2 * kNumbers + kScales, columns, group + 1, sums);
            for (int r = 0; r < R; ++r) {
                _mm_prefetch((const char*)at[r] + kAhead<T> + 2 * kNumbers, _MM_HINT_T0);
                at[r] += pair_bytes(kNumbers);
            }
            group += 2;
        } else {
            const bool second = group % 2;
            group_in_pair<K, R, T>(at, 0, second ? kNumbers + kScales : 2 * kNumbers, columns, group, sums);
            for (int r = 0; r < R; ++r) at[r] += second ? kNumbers + 2 * kScales : kNumbers;
            ++group;
        }
    }
    if (group < columns.groups) group_in_pair<K, R, T>(at, 0, kNumbers, columns, group, sums);
}

template <int R, int T>
inline __attribute__((always_inline)) void tiles_float32(const uint8_t* const* tiles, const Rows& rows, int token,
                                                         Sums<R, T>& sums) {
    const float* x = rows.floats + (size_t)token * (size_t)rows.stride;
    clear(sums);
    for (int column = 0; column < rows.cols; ++column) {
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) {
            const __m512 weights = _mm512_load_ps((const float*)tiles[r] + (size_t)column * kLanes);
#pragma GCC unroll 16
            for (int t = 0; t < T; ++t) {
                const __m512 value = _mm512_set1_ps(x[(size_t)t * (size_t)rows.stride + (size_t)column]);
                sums.of[r][t] = _mm512_fmadd_ps(weights, value, sums.of[r][t]);
            }
        }
    }
}

template <Kind K, int R, int T>
inline __attribute__((always_inline)) void multiply_tiles(const uint8_t* const* tiles, const Rows& rows, int token,
                                                          Sums<R, T>& sums) {
    if constexpr (K == Kind::Float32) {
        tiles_float32<R, T>(tiles, rows, token, sums);
    } else if constexpr (K == Kind::Q4) {
        tiles_q4<R, T>(tiles, rows, token, sums);
    } else {
        tiles_in_pairs<K, R, T>(tiles, rows, token, sums);
    }
}

struct Target {
    float* out;  // of the first tile and token 0
    size_t ld;
    Store store;
};

template <Kind K, int R, int T>
__attribute__((noinline)) void plain(const uint8_t* const* tiles, const Rows& rows, int token, const Target& target) {
    Sums<R, T> sums;
    multiply_tiles<K, R, T>(tiles, rows, token, sums);
    for (int t = 0; t < T; ++t) {
        for (int r = 0; r < R; ++r) {
            float* out = target.out + (size_t)(token + t) * target.ld + (size_t)r * kLanes;
            const __m512 sum = sums.of[r][t];
            _mm512_storeu_ps(out, target.store == Store::Add ? _mm512_add_ps(_mm512_loadu_ps(out), sum) : sum);
        }
    }
}

template <Kind K, int R, int T>
__attribute__((noinline)) void gated(const uint8_t* const* tiles, const Rows& rows, int token, const Target& target) {
    static_assert(R == 2);
    Sums<R, T> sums;
    multiply_tiles<K, R, T>(tiles, rows, token, sums);
    for (int t = 0; t < T; ++t) {
        _mm512_storeu_ps(target.out + (size_t)(token + t) * target.ld,
                         _mm512_mul_ps(silu_wide(sums.of[0][t]), sums.of[1][t]));
    }
}

using Step = void (*)(const uint8_t* const* tiles, const Rows& rows, int token, const Target& target);

template <Kind K, int R>
constexpr Step kPlain[kMostTokens + 1] = {nullptr,        plain<K, R, 1>, plain<K, R, 2>,
                                          plain<K, R, 3>, plain<K, R, 4>, plain<K, R, 5>,
                                          plain<K, R, 6>, plain<K, R, 7>, plain<K, R, 8>};
template <Kind K>
constexpr Step kGated[kMostTokens + 1] = {nullptr,        gated<K, 2, 1>, gated<K, 2, 2>,
                                          gated<K, 2, 3>, gated<K, 2, 4>, gated<K, 2, 5>,
                                          gated<K, 2, 6>, gated<K, 2, 7>, gated<K, 2, 8>};

void all_tokens(const Step* steps, const uint8_t* const* tiles, const Rows& rows, int tokens, const Target& target) {
    for (int token = 0; token < tokens;) {
        const int count = tokens - token <= kMostTokens ? tokens - token : kTokens;
        steps[count](tiles, rows, token, target);
        token += count;
    }
}

template <Kind K>
void multiply_kind(const Tiles& tiles, const Rows& rows, int tokens, float* out, size_t ld, Store store) {
    const Matrix& matrix = *tiles.matrix;
    const uint8_t* start = matrix.memory.bytes();
    for (int tile = tiles.begin; tile < tiles.end;) {
        const uint8_t* at[2] = {start + matrix.tile_bytes * (size_t)tile,
                                start + matrix.tile_bytes * (size_t)(tile + 1)};
        const Target target = {out + (size_t)tile * kLanes, ld, store};
        const bool two = tile + 1 < tiles.end && tokens > 1;  // for one token, one stream from memory is fastest
        all_tokens(two ? kPlain<K, 2> : kPlain<K, 1>, at, rows, tokens, target);
        tile += two ? 2 : 1;
    }
}

void wide_multiply(const Tiles& tiles, const Rows& rows, int tokens, float* out, size_t ld, Store store) {
    switch (tiles.matrix->kind) {
        case Kind::Q4:
            return multiply_kind<Kind::Q4>(tiles, rows, tokens, out, ld, store);
        case Kind::Q4Symmetric:
            return multiply_kind<Kind::Q4Symmetric>(tiles, rows, tokens, out, ld, store);
        case Kind::Q8:
            return multiply_kind<Kind::Q8>(tiles, rows, tokens, out, ld, store);
        case Kind::Float32:
            return multiply_kind<Kind::Float32>(tiles, rows, tokens, out, ld, store);
    }
}

void wide_multiply_gated(const Tiles& gate, const Matrix& up, const Rows& rows, int tokens, float* out, size_t ld) {
    const Kind kind = gate.matrix->kind;
    const Step* steps = kind == Kind::Q4            ? kGated<Kind::Q4>
                        : kind == Kind::Q4Symmetric ? kGated<Kind::Q4Symmetric>
                        : kind == Kind::Q8          ? kGated<Kind::Q8>
                                                    : kGated<Kind::Float32>;
    for (int tile = gate.begin; tile < gate.end; ++tile) {
        const size_t at = gate.matrix->tile_bytes * (size_t)tile;
        const uint8_t* both[2] = {gate.matrix->memory.bytes() + at, up.memory.bytes() + at};
        all_tokens(steps, both, rows, tokens, {out + (size_t)tile * kLanes, ld, Store::Set});
    }
}

void wide_gate(float* gate, const float* up, int n) {
    for (int i = 0; i < n; i += kLanes) {
        _mm512_storeu_ps(gate + i, _mm512_mul_ps(silu_wide(_mm512_loadu_ps(gate + i)), _mm512_loadu_ps(up + i)));
    }
}

// 16 elements of the cache.
inline __m512 sixteen(const uint16_t* at) { return halves((const uint8_t*)at); }
inline __m512 sixteen(const int8_t* at) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_load_si128((const __m128i*)at)));
}

// C = A B for `Q` queries: A (Q, depth) floats, B (depth, width) elements of the cache, of which 64 columns are taken.
constexpr int kCacheAhead = 4096;  // bytes: values follow keys in memory, and the next head's keys the values

template <int Q, int W, bool Ahead, typename Element>
inline __attribute__((always_inline)) void product(const float* a, size_t lda, const Element* b, size_t ldb, int depth,
                                                   __m512 (&c)[Q][W]) {
    for (int q = 0; q < Q; ++q) {
        for (int w = 0; w < W; ++w) c[q][w] = _mm512_setzero_ps();
    }
    for (int d = 0; d < depth; ++d, b += ldb) {
        __m512 row[W];
        if constexpr (Ahead) {
            for (size_t at = 0; at < W * kLanes * sizeof(Element); at += 64) {
                _mm_prefetch((const char*)b + kCacheAhead + at, _MM_HINT_T0);
            }
        }
#pragma GCC unroll 4
        for (int w = 0; w < W; ++w) row[w] = sixteen(b + w * kLanes);
#pragma GCC unroll 8
        for (int q = 0; q < Q; ++q) {
            const __m512 value = _mm512_set1_ps(a[(size_t)q * lda + (size_t)d]);
#pragma GCC unroll 4
            for (int w = 0; w < W; ++w) c[q][w] = _mm512_fmadd_ps(row[w], value, c[q][w]);
        }
    }
}

constexpr int kMostQueries = 6;

template <int Q, int W, typename Element>
inline void weigh_columns(const float* p, const Element* values, int width, float* out) {
    __m512 c[Q][W];
    product<Q, W, (W == 4)>(p, kBlockKeys, values, (size_t)width, kBlockKeys, c);
    for (int q = 0; q < Q; ++q) {
        for (int w = 0; w < W; ++w) _mm512_storeu_ps(out + (size_t)q * (size_t)width + (size_t)w * kLanes, c[q][w]);
    }
}

// The scales of 16 positions, and a score or weight times its own.
struct NoScales {};
inline NoScales key_scales(const CacheBlock&, int) { return {}; }
inline NoScales value_scales(const CacheBlock&, int) { return {}; }
inline __m512 key_scales(const SmallBlock& block, int w) { return sixteen(block.key_scales + w * kLanes); }
inline __m512 value_scales(const SmallBlock& block, int w) { return sixteen(block.value_scales + w * kLanes); }
inline __m512 scaled(__m512 x, NoScales) { return x; }
inline __m512 scaled(__m512 x, __m512 scales) { return _mm512_mul_ps(x, scales); }

template <int Q, typename Block>
void attend_some(const float* q, int ldq, const Block& block, int head_dim, const int* low, const int* high,
                 float* largest, float* weight, float* values) {
    alignas(64) float p[Q][kBlockKeys];
    {
        __m512 scores[Q][4];
        product<Q, 4, true>(q, (size_t)ldq, block.keys, kBlockKeys, head_dim, scores);
        for (int w = 0; w < 4; ++w) {
            const auto scales = key_scales(block, w);
            for (int i = 0; i < Q; ++i) scores[i][w] = scaled(scores[i][w], scales);
        }
        for (int i = 0; i < Q; ++i) {
            const bool any = low[i] < high[i];
            const uint64_t until = high[i] >= kBlockKeys ? ~0ull : any ? (1ull << high[i]) - 1 : 0;
            const uint64_t seen = any ? until & ~((1ull << low[i]) - 1) : 0;
            __m512 most = _mm512_set1_ps(kNothing);
            for (int w = 0; w < 4; ++w) {
                most = _mm512_mask_max_ps(most, (__mmask16)(seen >> 16 * w), scores[i][w], most);
            }
            const float top = largest_lane(most);
            for (int w = 0; w < 4; ++w) {
                const __m512 power = exp2_wide(_mm512_sub_ps(scores[i][w], _mm512_set1_ps(top)));
                scores[i][w] = _mm512_maskz_mov_ps((__mmask16)(seen >> 16 * w), power);
                _mm512_store_ps(p[i] + w * kLanes, scaled(scores[i][w], value_scales(block, w)));
            }
            largest[i] = top;
            weight[i] = add_lanes(
                _mm512_add_ps(_mm512_add_ps(scores[i][0], scores[i][1]), _mm512_add_ps(scores[i][2], scores[i][3])));
        }
    }
    const int width = padded(head_dim);
    int column = 0;
    for (; column + 64 <= width; column += 64) weigh_columns<Q, 4>(p[0], block.values + column, width, values + column);
    for (; column < width; column += kLanes) weigh_columns<Q, 1>(p[0], block.values + column, width, values + column);
}

template <typename Block>
using AttendSome = void (*)(const float*, int, const Block&, int, const int*, const int*, float*, float*, float*);
template <typename Block>
constexpr AttendSome<Block> kAttendSome[kMostQueries + 1] = {
    nullptr,
    attend_some<1, Block>,
    attend_some<2, Block>,
    attend_some<3, Block>,
    attend_some<4, Block>,
    attend_some<5, Block>,
    attend_some<6, Block>,
};

template <typename Block>
void wide_attend(const float* q, int ldq, int queries, const Block& block, int head_dim, const int* low,
                 const int* high, const Partial& out) {
    for (int i = 0; i < queries;) {
        const int count = queries - i < kMostQueries ? queries - i : kMostQueries;
        kAttendSome<Block>[count](q + (size_t)i*(size_t)ldq, ldq, block, head_dim, low + i, high + i, out.largest + i,
                                  out.weight + i, out.values + (size_t)i*(size_t)padded(head_dim));
        i += count;
    }
}

void wide_merge(const Partial& sum, const Partial& part, int head_dim) {
    if (*part.weight == 0) return;
    const bool first = *sum.weight == 0;
    const float top = first ? *part.largest : larger(*sum.largest, *part.largest);
    const float old_share = first ? 0.0f : exp2_of(*sum.largest - top);
    const float new_share = exp2_of(*part.largest - top);
    *sum.largest = top;
    *sum.weight = __builtin_fmaf(first ? 0.0f : *sum.weight, old_share, *part.weight * new_share);
    const __m512 share = _mm512_set1_ps(new_share);
    for (int d = 0; d < padded(head_dim); d += kLanes) {
        const __m512 old = first ? _mm512_setzero_ps() : _mm512_loadu_ps(sum.values + d);
        const __m512 added = _mm512_mul_ps(_mm512_loadu_ps(part.values + d), share);
        _mm512_storeu_ps(sum.values + d, _mm512_fmadd_ps(old, _mm512_set1_ps(old_share), added));
    }
}

void wide_to_half(const float* x, int n, uint16_t* out) {
    int i = 0;
    const __m512 most = _mm512_set1_ps(65504.0f), least = _mm512_set1_ps(-65504.0f);
    for (; i + kLanes <= n; i += kLanes) {
        const __m512 v = _mm512_max_ps(_mm512_min_ps(_mm512_loadu_ps(x + i), most), least);
        _mm256_storeu_si256((__m256i*)(out + i), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
    to_half(x + i, n - i, out + i);
}

int64_t wide_products(int rounds, int32_t& sum) {
    constexpr int kSums = 16;
    const __m512i numbers = _mm512_set1_epi8(15), others = _mm512_set1_epi8(-3);
    __m512i sums[kSums] = {};
    for (int round = 0; round < rounds; ++round) {
#pragma GCC unroll 16  // without it the sums lie in memory
        for (int i = 0; i < kSums; ++i) {
            sums[i] = _mm512_dpbusd_epi32(sums[i], numbers, others);
            asm volatile("" : "+v"(sums[i]));  // each for itself: they begin alike
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < kSums; ++i) sum += _mm512_cvtsi512_si32(sums[i]);
    return int64_t(rounds) * kSums * 64;
}

}  // namespace

const Ops kAvx512Ops = {"avx512",
                        wide_rms_norm,
                        wide_quantise,
                        wide_multiply,
                        wide_multiply_gated,
                        wide_gate,
                        rotate,
                        wide_to_half,
                        wide_attend<CacheBlock>,
                        wide_merge,
                        finish,
                        wide_products,
                        to_small,
                        wide_attend<SmallBlock>};

}  // namespace empu
