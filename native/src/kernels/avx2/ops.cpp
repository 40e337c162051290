// AVX2, with the dot product of AVX-VNNI where the processor has it: two ymm registers are one tile's 16 rows. The
// verbs that are missing here are the plain ones, which the compiler turns into vectors of eight.
#include "kernels/attend_x86.hpp"
#include "kernels/avx2/vector.hpp"

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

constexpr size_t kAhead = 8 * 1024;  // bytes that the weights of more than one token are fetched before their use

// Asks for what comes that far behind `at`.
template <int T>
inline void fetch(const uint8_t* at) {
    _mm_prefetch((const char*)at + (T == 1 ? kAheadForOne : kAhead), _MM_HINT_T0);
}

inline __m256i load(const uint8_t* at) { return _mm256_loadu_si256((const __m256i*)at); }

inline __m256i broadcast4(const int8_t* at) {
    int32_t four;
    memcpy(&four, at, sizeof four);
    return _mm256_set1_epi32(four);
}

void wide_rms_norm(const float* x, const float* weight, int n, float eps, float* out) {
    __m256 low = _mm256_setzero_ps(), high = low;
    for (int i = 0; i < padded(n); i += kLanes) {
        const __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + i + kHalf);
        low = _mm256_fmadd_ps(a, a, low);
        high = _mm256_fmadd_ps(b, b, high);
    }
    const __m256 scale = _mm256_set1_ps(1.0f / __builtin_sqrtf(add_lanes(low, high) / (float)n + eps));
    for (int i = 0; i < padded(n); i += kHalf) {
        const __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + i), scale);
        _mm256_storeu_ps(out + i, _mm256_mul_ps(v, _mm256_loadu_ps(weight + i)));
    }
}

// The numbers of half a group, in 16 bits.
inline __m256i rounded_numbers(const __m256 (&half)[2], float largest) {
    const __m256 inverse = _mm256_set1_ps(largest > 0 ? 127.0f / largest : 0.0f);
    const __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(half[0], inverse));
    const __m256i high = _mm256_cvtps_epi32(_mm256_mul_ps(half[1], inverse));
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
}

inline int32_t total_of_numbers(__m256i numbers) {
    const __m256i pairs = _mm256_madd_epi16(numbers, _mm256_set1_epi16(1));
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

void wide_quantise(const float* x, const Rows& rows, int token, int begin, int end) {
    const size_t first = (size_t)token * (size_t)rows.groups();
    for (int group = begin; group < end; ++group, x += kGroup) {
        const size_t at = first + (size_t)group;
        const __m256 a[] = {_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8)};
        const __m256 b[] = {_mm256_loadu_ps(x + 16), _mm256_loadu_ps(x + 24)};
        const __m256 sizes_a = _mm256_max_ps(magnitudes(a[0]), magnitudes(a[1]));
        const __m256 sizes_b = _mm256_max_ps(magnitudes(b[0]), magnitudes(b[1]));
        const float largest_a = largest_lane(rows.fine ? sizes_a : _mm256_max_ps(sizes_a, sizes_b));
        const float largest_b = rows.fine ? largest_lane(sizes_b) : largest_a;
        const __m256i low = rounded_numbers(a, largest_a), high = rounded_numbers(b, largest_b);
        _mm256_storeu_si256((__m256i*)(rows.numbers + at * kGroup),
                            _mm256_permute4x64_epi64(_mm256_packs_epi16(low, high), 0xd8));
        if (rows.fine) {
            note_span(rows, token, 2 * group, largest_a, total_of_numbers(low));
            note_span(rows, token, 2 * group + 1, largest_b, total_of_numbers(high));
        } else {
            note_span(rows, token, group, largest_a, total_of_numbers(_mm256_add_epi16(low, high)));
        }
    }
}

constexpr int kMostTokens = 4;  // whose sums stay in registers

#if defined(EMPU_AVX_VNNI)

// Adds to each of eight rows the products of its four numbers (0 to 255) and the four of `a` (-127 to 127).
inline __m256i add_products(__m256i sum, __m256i numbers, __m256i a) {
    return _mm256_dpbusd_avx_epi32(sum, numbers, a);
}
template <int Factor>
inline __m256i total_of(__m256i sum) {
    return sum;
}

#else

// The same with numbers of at most 15, in sums of 16 bits, two to a row: they hold the products of a whole group.
inline __m256i add_products(__m256i sum, __m256i numbers, __m256i a) {
    sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(numbers, a));
    asm("" : "+x"(sum));  // otherwise the compiler keeps many products in memory, to add them in a tree
    return sum;
}
template <int Factor>
inline __m256i total_of(__m256i sum) {
    return _mm256_madd_epi16(sum, _mm256_set1_epi16(Factor));
}

#endif

inline __m256i low_half(__m256i bytes) { return _mm256_and_si256(bytes, _mm256_set1_epi8(15)); }
inline __m256i high_half(__m256i bytes) { return low_half(_mm256_srli_epi16(bytes, 4)); }

// The sums of a tile's 16 rows, in two halves, for `T` tokens, and the products of one group.
template <int T>
struct Sums {
    __m256 of[2][T];
};
template <int T>
struct Dots {
    __m256i of[2][T];
};

template <int T>
inline void clear(Sums<T>& sums) {
    for (int half = 0; half < 2; ++half) {
        for (int t = 0; t < T; ++t) sums.of[half][t] = _mm256_setzero_ps();
    }
}

// The products of a group's numbers, or of half of them, with the activations of `T` tokens, `stride` apart.
template <Span S, int T>
inline __attribute__((always_inline)) void dots_q4(const uint8_t* at, const int8_t* a, size_t stride, Dots<T>& dots) {
    for (int half = 0; half < 2; ++half) {
        for (int t = 0; t < T; ++t) dots.of[half][t] = _mm256_setzero_si256();
    }
#pragma GCC unroll 4
    for (int line = 0; line < 4; ++line) {
        const __m256i both[] = {load(at + 64 * line), load(at + 64 * line + 32)};
        if constexpr (S != Span::Second) fetch<T>(at + 64 * line);
        const __m256i low[] = {low_half(both[0]), low_half(both[1])};
        const __m256i high[] = {high_half(both[0]), high_half(both[1])};
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
            const int8_t* row = a + (size_t)t * stride + 4 * line;
#pragma GCC unroll 2
            for (int half = 0; half < 2; ++half) {
                __m256i& dot = dots.of[half][t];
                if constexpr (S != Span::Second) dot = add_products(dot, low[half], broadcast4(row));
                if constexpr (S != Span::First) dot = add_products(dot, high[half], broadcast4(row + 16));
            }
        }
    }
    for (int half = 0; half < 2; ++half) {
        for (int t = 0; t < T; ++t) dots.of[half][t] = total_of<1>(dots.of[half][t]);
    }
}

// The same for eight rows.
template <Span S, bool Ahead, int T>
inline __attribute__((always_inline)) void dots_q8(const uint8_t* at, const int8_t* a, size_t stride,
                                                   __m256i (&dots)[T]) {
    __m256i low[T], high[T];
    for (int t = 0; t < T; ++t) low[t] = high[t] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int line = S == Span::Second ? 4 : 0; line < (S == Span::First ? 4 : 8); ++line) {
        const __m256i numbers = load(at + 64 * line);
        if constexpr (Ahead) fetch<T>(at + 64 * line);
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
            const __m256i x = broadcast4(a + (size_t)t * stride + 4 * line);
#if defined(EMPU_AVX_VNNI)
            low[t] = add_products(low[t], numbers, x);
#else
            low[t] = add_products(low[t], low_half(numbers), x);
            high[t] = add_products(high[t], high_half(numbers), x);
#endif
        }
    }
    for (int t = 0; t < T; ++t) dots[t] = _mm256_add_epi32(total_of<1>(low[t]), total_of<16>(high[t]));
}

// The activations of some tokens, and where scale, sum and total of a group, or of a half, of token t are.
struct Columns {
    const Rows& rows;
    size_t groups;
    size_t first;  // of the first token

    Columns(const Rows& of, int token) : rows(of), groups((size_t)of.groups()), first((size_t)token * groups) {}

    template <Span S>
    size_t entry(int t, size_t group) const {
        const size_t at = first + (size_t)t * groups + group;
        return S == Span::Group ? at : 2 * at + (S == Span::Second ? 1 : 0);
    }
};

// Adds what eight rows have for one token: the products, and entry `of` of scales, sums and totals.
template <Kind K>
inline __m256 add_scaled(__m256 sum, __m256i dot, const uint8_t* scales, const Rows& rows, size_t of) {
    constexpr int kOffset = K == Kind::Q8 ? 128 : K == Kind::Q4Symmetric ? 8 : 0;
    if constexpr (kOffset != 0) dot = _mm256_sub_epi32(dot, _mm256_set1_epi32(kOffset * rows.totals[of]));
    if constexpr (K == Kind::Q4) {
        sum = _mm256_fmadd_ps(halves(scales + kScales), _mm256_set1_ps(rows.sums[of]), sum);
    }
    const __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(dot), _mm256_set1_ps(rows.scales[of]));
    return _mm256_fmadd_ps(product, halves(scales), sum);
}

// Adds the products of a group, or of a half of it.
template <Kind K, Span S, int T>
inline __attribute__((always_inline)) void add_span(const uint8_t* numbers, const uint8_t* scales,
                                                    const Columns& columns, size_t group, Sums<T>& sums) {
    const int8_t* a = columns.rows.numbers + (columns.first + group) * kGroup;
    const size_t stride = columns.groups * kGroup;
    Dots<T> dots;
    const auto add = [&](int half, int t) {
        sums.of[half][t] = add_scaled<K>(sums.of[half][t], dots.of[half][t], scales + 16 * half, columns.rows,
                                         columns.entry<S>(t, group));
    };
    if constexpr (K == Kind::Q8) {
        dots_q8<S, true, T>(numbers, a, stride, dots.of[0]);
        for (int t = 0; t < T; ++t) add(0, t);
        asm("" : "+r"(a));  // otherwise all that was read through it waits in memory for its second use
        dots_q8<S, false, T>(numbers + 32, a, stride, dots.of[1]);
        for (int t = 0; t < T; ++t) add(1, t);
    } else {
        dots_q4<S, T>(numbers, a, stride, dots);
        for (int t = 0; t < T; ++t) add(0, t), add(1, t);
    }
}

template <Kind K, bool Fine, int T>
inline __attribute__((always_inline)) void add_groups(const uint8_t* tile, const Rows& rows, int token, Sums<T>& sums) {
    constexpr size_t kNumbers = K == Kind::Q8 ? kQ8Numbers : kQ4Numbers;
    const Columns columns(rows, token);
    for (int group = 0; group < rows.groups(); ++group) {
        const size_t at = K == Kind::Q4 ? (size_t)group * kQ4GroupBytes : numbers_at(kNumbers, group);
        const size_t scales = K == Kind::Q4 ? at + kQ4Numbers : scales_at(kNumbers, rows.groups(), group);
        if constexpr (Fine) {
            add_span<K, Span::First, T>(tile + at, tile + scales, columns, (size_t)group, sums);
            add_span<K, Span::Second, T>(tile + at, tile + scales, columns, (size_t)group, sums);
        } else {
            add_span<K, Span::Group, T>(tile + at, tile + scales, columns, (size_t)group, sums);
        }
    }
}

template <int T>
inline void add_columns(const uint8_t* tile, const Rows& rows, int token, Sums<T>& sums) {
    const float* weights = (const float*)tile;
    const float* x = rows.floats + (size_t)token * (size_t)rows.stride;
    for (int column = 0; column < rows.cols; ++column, weights += kLanes) {
        const __m256 of[] = {_mm256_loadu_ps(weights), _mm256_loadu_ps(weights + kHalf)};
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
            const __m256 value = _mm256_set1_ps(x[(size_t)t * (size_t)rows.stride + (size_t)column]);
            sums.of[0][t] = _mm256_fmadd_ps(of[0], value, sums.of[0][t]);
            sums.of[1][t] = _mm256_fmadd_ps(of[1], value, sums.of[1][t]);
        }
    }
}

// The products of one tile for `T` tokens.
template <Kind K, bool Fine, int T>
inline void wide_tile(const Matrix& matrix, int tile, const Rows& rows, int token, float (&out)[T][kLanes]) {
    Sums<T> sums;
    clear(sums);
    if constexpr (K == Kind::Float32) {
        add_columns<T>(matrix.tile(tile), rows, token, sums);
    } else {
        add_groups<K, Fine, T>(matrix.tile(tile), rows, token, sums);
    }
    for (int t = 0; t < T; ++t) {
        _mm256_storeu_ps(out[t], sums.of[0][t]);
        _mm256_storeu_ps(out[t] + kHalf, sums.of[1][t]);
    }
}

inline __m256 silu_wide(__m256 x) {
    const __m256 power = exp2_wide(_mm256_mul_ps(magnitudes(x), _mm256_set1_ps(-1.44269504f)));
    const __m256 one = _mm256_set1_ps(1.0f);
    const __m256 negative = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ);
    return _mm256_div_ps(_mm256_mul_ps(x, _mm256_blendv_ps(one, power, negative)), _mm256_add_ps(one, power));
}

void wide_gate(float* gate, const float* up, int n) {
    for (int i = 0; i < n; i += kHalf) {
        _mm256_storeu_ps(gate + i, _mm256_mul_ps(silu_wide(_mm256_loadu_ps(gate + i)), _mm256_loadu_ps(up + i)));
    }
}

struct Target {
    float* out;
    size_t ld;
    Store store;

    float* at(int token, int tile) const { return out + (size_t)token * ld + (size_t)tile * kLanes; }
};

template <Kind K, bool Fine, int T>
__attribute__((noinline)) void plain(const Matrix& matrix, const Matrix&, int tile, const Rows& rows, int token,
                                     const Target& target) {
    float sums[T][kLanes];
    wide_tile<K, Fine, T>(matrix, tile, rows, token, sums);
    for (int t = 0; t < T; ++t) {
        float* out = target.at(token + t, tile);
        for (int l = 0; l < kLanes; ++l) out[l] = target.store == Store::Add ? out[l] + sums[t][l] : sums[t][l];
    }
}

template <Kind K, bool Fine, int T>
__attribute__((noinline)) void gated(const Matrix& matrix, const Matrix& up, int tile, const Rows& rows, int token,
                                     const Target& target) {
    float gates[T][kLanes], ups[T][kLanes];
    wide_tile<K, Fine, T>(matrix, tile, rows, token, gates);
    wide_tile<K, Fine, T>(up, tile, rows, token, ups);
    for (int t = 0; t < T; ++t) {
        wide_gate(gates[t], ups[t], kLanes);
        memcpy(target.at(token + t, tile), gates[t], sizeof gates[t]);
    }
}

using Step = void (*)(const Matrix& matrix, const Matrix& up, int tile, const Rows& rows, int token,
                      const Target& target);

template <Kind K, bool Fine>
constexpr Step kPlain[] = {plain<K, Fine, 1>, plain<K, Fine, 2>, plain<K, Fine, 3>, plain<K, Fine, 4>};
template <Kind K>
constexpr Step kGated[] = {gated<K, false, 1>, gated<K, false, 2>, gated<K, false, 3>, gated<K, false, 4>};

void all_tiles(const Step* steps, const Tiles& tiles, const Matrix& up, const Rows& rows, int tokens,
               const Target& target) {
    for (int tile = tiles.begin; tile < tiles.end; ++tile) {
        for (int token = 0; token < tokens;) {
            const int count = tokens - token < kMostTokens ? tokens - token : kMostTokens;
            steps[count - 1](*tiles.matrix, up, tile, rows, token, target);
            token += count;
        }
    }
}

template <Kind K>
const Step* plain_steps(const Rows& rows) {
    return rows.fine ? kPlain<K, true> : kPlain<K, false>;
}

void wide_multiply(const Tiles& tiles, const Rows& rows, int tokens, float* out, size_t ld, Store store) {
    const auto multiply_all = [&](const Step* steps) {
        all_tiles(steps, tiles, *tiles.matrix, rows, tokens, {out, ld, store});
    };
    switch (tiles.matrix->kind) {
        case Kind::Q4:
            return multiply_all(plain_steps<Kind::Q4>(rows));
        case Kind::Q4Symmetric:
            return multiply_all(plain_steps<Kind::Q4Symmetric>(rows));
        case Kind::Q8:
            return multiply_all(plain_steps<Kind::Q8>(rows));
        case Kind::Float32:
            return multiply_all(kPlain<Kind::Float32, false>);
    }
}

void wide_multiply_gated(const Tiles& tiles, const Matrix& up, const Rows& rows, int tokens, float* out, size_t ld) {
    const auto multiply_all = [&](const Step* steps) {
        all_tiles(steps, tiles, up, rows, tokens, {out, ld, Store::Set});
    };
    switch (tiles.matrix->kind) {
        case Kind::Q4:
            return multiply_all(kGated<Kind::Q4>);
        case Kind::Q4Symmetric:
            return multiply_all(kGated<Kind::Q4Symmetric>);
        case Kind::Q8:
            return multiply_all(kGated<Kind::Q8>);
        case Kind::Float32:
            return multiply_all(kGated<Kind::Float32>);
    }
}

float wide_powers(const float* x, int n, float largest, float factor, float* out) {
    __m256 sums[] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (int i = 0; i < n; i += kLanes) {
        for (int half = 0; half < 2; ++half) {
            const __m256 below = _mm256_sub_ps(_mm256_loadu_ps(x + i + kHalf * half), _mm256_set1_ps(largest));
            const __m256 exponent = _mm256_mul_ps(below, _mm256_set1_ps(factor));
            const __m256 kept = _mm256_cmp_ps(exponent, _mm256_set1_ps(kLeastOfPowers), _CMP_GE_OQ);
            const __m256 power = _mm256_and_ps(kept, exp2_wide(exponent));
            _mm256_storeu_ps(out + i + kHalf * half, power);
            sums[half] = _mm256_add_ps(sums[half], power);
        }
    }
    return add_lanes(sums[0], sums[1]);
}

int64_t wide_products(int rounds, int32_t& sum) {
    constexpr int kSums = 8;
    __m256i numbers = _mm256_set1_epi8(15);
    const __m256i others = _mm256_set1_epi8(-3);
    __m256i sums[kSums] = {};
    for (int round = 0; round < rounds; ++round) {
#pragma GCC unroll 8  // without it the sums lie in memory
        for (int i = 0; i < kSums; ++i) {
            sums[i] = add_products(sums[i], numbers, others);
            asm volatile("" : "+x"(sums[i]), "+x"(numbers));  // each for itself, and none ahead of the loop
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kSums; ++i) sum += _mm256_extract_epi32(sums[i], 0);
    return int64_t(rounds) * kSums * 32;
}

}  // namespace

const Ops EMPU_TABLE = {EMPU_NAME,    wide_rms_norm, wide_quantise, wide_multiply,     wide_multiply_gated,
                        wide_gate,    rotate,        to_bfloat,     avx2_attend,       merge,
                        finish,       wide_products, to_small,      avx2_attend_small, wide_powers,
                        &kAvx2TuneOps};

}  // namespace empu
