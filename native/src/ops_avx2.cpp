// AVX2, with the dot product of AVX-VNNI where the processor has it: two ymm registers are one tile's 16 rows. The
// verbs that are missing here are the plain ones, which the compiler turns into vectors of eight.
#include <immintrin.h>

#include "ops_portable.hpp"

#if defined(EMPU_AVX_VNNI)
#define EMPU_TABLE kAvxVnniOps
#define EMPU_NAME "avx-vnni"
#else
#define EMPU_TABLE kAvx2Ops
#define EMPU_NAME "avx2"
#endif

namespace empu {
extern const Ops EMPU_TABLE;

namespace {

constexpr int kHalf = 8;
constexpr int kAhead = 8 * 1024;  // bytes that the weights are fetched before their use

inline __m256 halves(const uint8_t* at) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)at)); }
inline __m256i load(const uint8_t* at) { return _mm256_loadu_si256((const __m256i*)at); }

inline __m256i broadcast4(const int8_t* at) {
    int32_t four;
    memcpy(&four, at, sizeof four);
    return _mm256_set1_epi32(four);
}

// Adds to each of eight rows the products of its four numbers (0 to 255) and the four of `a` (-127 to 127).
template <bool Small>
inline __m256i add_dot(__m256i sum, __m256i numbers, __m256i a) {
#if defined(EMPU_AVX_VNNI)
    return _mm256_dpbusd_avx_epi32(sum, numbers, a);
#else
    if constexpr (Small) {  // numbers of at most 15: sums of two products fit 16 bits
        const __m256i pairs = _mm256_maddubs_epi16(numbers, a);
        return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    const __m256i low_byte = _mm256_set1_epi16(255);
    const __m256i even =
        _mm256_madd_epi16(_mm256_and_si256(numbers, low_byte), _mm256_srai_epi16(_mm256_slli_epi16(a, 8), 8));
    const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(numbers, 8), _mm256_srai_epi16(a, 8));
    return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
#endif
}

// Adds to the sums of eight rows the products of a group's numbers, or of a half, with the activations of `T` tokens.
template <Span S, int T>
inline __attribute__((always_inline)) void half_dots_q4(const uint8_t* at, const int8_t* a, size_t groups,
                                                        __m256i (&dot)[T]) {
    const __m256i low_bits = _mm256_set1_epi8(15);
#pragma GCC unroll 4
    for (int line = 0; line < 4; ++line) {
        const __m256i both = load(at + 64 * line);
        _mm_prefetch((const char*)at + kAhead + 64 * line, _MM_HINT_T0);
        const __m256i low = _mm256_and_si256(both, low_bits);
        const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), low_bits);
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
            const int8_t* row = a + (size_t)t * groups * kGroup + 4 * line;
            if constexpr (S != Span::Second) dot[t] = add_dot<true>(dot[t], low, broadcast4(row));
            if constexpr (S != Span::First) dot[t] = add_dot<true>(dot[t], high, broadcast4(row + 16));
        }
    }
}

template <Span S, int T>
inline __attribute__((always_inline)) void half_dots_q8(const uint8_t* at, const int8_t* a, size_t groups,
                                                        __m256i (&dot)[T]) {
#pragma GCC unroll 8
    for (int line = S == Span::Second ? 4 : 0; line < (S == Span::First ? 4 : 8); ++line) {
        const __m256i numbers = load(at + 64 * line);
        _mm_prefetch((const char*)at + kAhead + 64 * line, _MM_HINT_T0);
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
            dot[t] = add_dot<false>(dot[t], numbers, broadcast4(a + (size_t)t * groups * kGroup + 4 * line));
        }
    }
}

// What lies at one group of half a tile, rows 8 * half on.
struct Place {
    const uint8_t* numbers;
    const uint8_t* scales;
    size_t group;  // of the first token, among all tokens' groups
};

// Adds the products of a group, or of a half of it, to the sums of eight rows for `T` tokens.
template <Kind K, Span S, int T>
inline __attribute__((always_inline)) void add_span(const Place& place, const Rows& rows, __m256 (&sums)[T]) {
    constexpr int kOffset = K == Kind::Q8 ? 128 : K == Kind::Q4Symmetric ? 8 : 0;
    const size_t groups = (size_t)rows.groups();
    const auto entry = [&](int t) {
        const size_t at = place.group + (size_t)t * groups;
        return S == Span::Group ? at : 2 * at + (S == Span::Second ? 1 : 0);
    };
    __m256i dot[T];
    for (int t = 0; t < T; ++t) dot[t] = _mm256_set1_epi32(kOffset ? -kOffset * rows.totals[entry(t)] : 0);
    const int8_t* a = rows.numbers + place.group * kGroup;
    if constexpr (K == Kind::Q8) {
        half_dots_q8<S, T>(place.numbers, a, groups, dot);
    } else {
        half_dots_q4<S, T>(place.numbers, a, groups, dot);
    }
    const __m256 scale = halves(place.scales);
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
        if constexpr (K == Kind::Q4) {
            sums[t] = _mm256_fmadd_ps(halves(place.scales + 32), _mm256_set1_ps(rows.sums[entry(t)]), sums[t]);
        }
        const __m256 factor = _mm256_set1_ps(rows.scales[entry(t)]);
        sums[t] = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(dot[t]), factor), scale, sums[t]);
    }
}

template <Kind K, int T>
inline __attribute__((always_inline)) void add_group(const Place& place, const Rows& rows, __m256 (&sums)[T]) {
    if (rows.fine) {
        add_span<K, Span::First, T>(place, rows, sums);
        add_span<K, Span::Second, T>(place, rows, sums);
    } else {
        add_span<K, Span::Group, T>(place, rows, sums);
    }
}

// Each adds up one half of a tile, rows 8 * half on, for `T` tokens.
template <int T>
void half_q4(const uint8_t* tile, int half, const Rows& rows, int token, __m256 (&sums)[T]) {
    const size_t first = (size_t)token * (size_t)rows.groups();
    for (int group = 0; group < rows.groups(); ++group, tile += kQ4GroupBytes) {
        add_group<Kind::Q4, T>({tile + 32 * half, tile + 256 + 16 * half, first + (size_t)group}, rows, sums);
    }
}

template <Kind K, int T>
void half_in_pairs(const uint8_t* tile, int half, const Rows& rows, int token, __m256 (&sums)[T]) {
    constexpr size_t kNumbers = K == Kind::Q8 ? kQ8Numbers : kQ4Numbers;
    const size_t first = (size_t)token * (size_t)rows.groups();
    for (int group = 0; group < rows.groups(); ++group) {
        const uint8_t* scales = tile + scales_at(kNumbers, rows.groups(), group);
        add_group<K, T>({tile + numbers_at(kNumbers, group) + 32 * half, scales + 16 * half, first + (size_t)group},
                        rows, sums);
    }
}

template <int T>
void half_float32(const uint8_t* tile, int half, const Rows& rows, int token, __m256 (&sums)[T]) {
    const float* weights = (const float*)tile + kHalf * half;
    const float* x = rows.floats + (size_t)token * (size_t)rows.stride;
    for (int column = 0; column < rows.cols; ++column, weights += kLanes) {
        const __m256 row = _mm256_loadu_ps(weights);
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
            sums[t] =
                _mm256_fmadd_ps(row, _mm256_set1_ps(x[(size_t)t * (size_t)rows.stride + (size_t)column]), sums[t]);
        }
    }
}

// The products of one tile for `T` tokens, (T, 16).
template <int T>
void wide_tile(const Matrix& matrix, const uint8_t* tile, const Rows& rows, int token, float (&out)[T][kLanes]) {
    for (int half = 0; half < 2; ++half) {
        __m256 sums[T];
        for (int t = 0; t < T; ++t) sums[t] = _mm256_setzero_ps();
        if (matrix.kind == Kind::Q4) half_q4<T>(tile, half, rows, token, sums);
        if (matrix.kind == Kind::Q4Symmetric) half_in_pairs<Kind::Q4Symmetric, T>(tile, half, rows, token, sums);
        if (matrix.kind == Kind::Q8) half_in_pairs<Kind::Q8, T>(tile, half, rows, token, sums);
        if (matrix.kind == Kind::Float32) half_float32<T>(tile, half, rows, token, sums);
        for (int t = 0; t < T; ++t) _mm256_storeu_ps(out[t] + kHalf * half, sums[t]);
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

// Eight pairs of the cache.
struct Pairs {
    __m256 first, second;
};

inline Pairs pairs(const uint16_t* at) {
    const __m256i both = load((const uint8_t*)at);
    return {_mm256_castsi256_ps(_mm256_slli_epi32(both, 16)),
            _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32((int)0xffff0000)))};
}

inline Pairs pairs(const int8_t* at) {
    const __m256i both = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)at));
    return {_mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(both, 16), 16)),
            _mm256_cvtepi32_ps(_mm256_srai_epi32(both, 16))};
}

inline __m256 add_pairs(__m256 sum, const Pairs& pairs, const float* factors) {
    sum = _mm256_fmadd_ps(pairs.second, _mm256_set1_ps(factors[1]), sum);
    return _mm256_fmadd_ps(pairs.first, _mm256_set1_ps(factors[0]), sum);
}

// One query against the 64 keys of a block, eight at a time.
template <typename Element>
void wide_score(const float* q, const Element* keys, int head_dim, float* scores) {
    __m256 sums[kBlockKeys / kHalf];
    for (__m256& sum : sums) sum = _mm256_setzero_ps();
    for (int d = 0; d < head_dim; d += 2, keys += 2 * kBlockKeys) {
#pragma GCC unroll 8
        for (int i = 0; i < kBlockKeys / kHalf; ++i) sums[i] = add_pairs(sums[i], pairs(keys + 2 * kHalf * i), q + d);
    }
    for (int i = 0; i < kBlockKeys / kHalf; ++i) _mm256_storeu_ps(scores + i * kHalf, sums[i]);
}

// The values of a block, weighed, 16 columns at a time.
template <typename Element>
void wide_weigh(const float* weights, const Element* values, int width, float* out) {
    for (int d = 0; d < width; d += kLanes) {
        __m256 low = _mm256_setzero_ps(), high = _mm256_setzero_ps();
        const Element* at = values + 2 * d;
        for (int key = 0; key < kBlockKeys; key += 2, at += 2 * width) {
            low = add_pairs(low, pairs(at), weights + key);
            high = add_pairs(high, pairs(at + kLanes), weights + key);
        }
        _mm256_storeu_ps(out + d, low);
        _mm256_storeu_ps(out + d + kHalf, high);
    }
}

template <typename Block, typename Element>
void wide_attend(const uint16_t* q, int ldq, int queries, const Block& block, int head_dim, const int* low,
                 const int* high, const Partial& out, Store store) {
    attend_each(q, ldq, queries, block, head_dim, low, high, out, store, wide_score<Element>, wide_weigh<Element>);
}

int64_t wide_products(int rounds, int32_t& sum) {
    constexpr int kSums = 8;
    __m256i numbers = _mm256_set1_epi8(15);
    const __m256i others = _mm256_set1_epi8(-3);
    __m256i sums[kSums] = {};
    for (int round = 0; round < rounds; ++round) {
#pragma GCC unroll 8  // without it the sums lie in memory
        for (int i = 0; i < kSums; ++i) {
            sums[i] = add_dot<true>(sums[i], numbers, others);
            asm volatile("" : "+x"(sums[i]), "+x"(numbers));  // each for itself, and none ahead of the loop
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kSums; ++i) sum += _mm256_extract_epi32(sums[i], 0);
    return int64_t(rounds) * kSums * 32;
}

}  // namespace

const Ops EMPU_TABLE = {EMPU_NAME,
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
                        wide_attend<SmallBlock, int8_t>};

}  // namespace empu
