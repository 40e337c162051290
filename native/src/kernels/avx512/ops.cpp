// AVX-512 with VNNI: one zmm register is one tile's 16 rows, or 16 elements of a row.
#include "kernels/attend_x86.hpp"
#include "kernels/avx512/vector.hpp"
#include "kernels/amx/matmul.hpp"

namespace empu {
extern const Ops kAvx512Ops;
extern const Ops kAvx512Bf16Ops;
extern const Ops kAmxOps;

namespace {

constexpr int kMostTokens = 8;  // that one walk through the weights serves; of more, so many go at once:
constexpr int kTokens = 6;      // more sums than that do not stay in registers
constexpr size_t kAhead = 16 * 1024;  // bytes that the weights of more than one token are fetched before their use
template <int T>
constexpr auto kInto = T == 1 ? _MM_HINT_T0 : _MM_HINT_T1;  // of more tokens past the first cache, which is in use

inline __m512i broadcast4(const int8_t* at) {
    int32_t four;
    memcpy(&four, at, sizeof four);
    return _mm512_set1_epi32(four);
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
        const __m512 sizes_a = _mm512_abs_ps(a), sizes_b = _mm512_abs_ps(b);
        const float largest_a = largest_lane(rows.fine ? sizes_a : _mm512_max_ps(sizes_a, sizes_b));
        const float largest_b = rows.fine ? largest_lane(sizes_b) : largest_a;
        const auto numbers = [](__m512 half, float most) {
            return _mm512_cvtps_epi32(_mm512_mul_ps(half, _mm512_set1_ps(most > 0 ? 127.0f / most : 0.0f)));
        };
        const __m512i low = numbers(a, largest_a), high = numbers(b, largest_b);
        _mm_storeu_si128((__m128i*)(rows.numbers + at * kGroup), _mm512_cvtepi32_epi8(low));
        _mm_storeu_si128((__m128i*)(rows.numbers + at * kGroup + kLanes), _mm512_cvtepi32_epi8(high));
        if (rows.fine) {
            note_span(rows, token, 2 * group, largest_a, _mm512_reduce_add_epi32(low));
            note_span(rows, token, 2 * group + 1, largest_b, _mm512_reduce_add_epi32(high));
        } else {
            note_span(rows, token, group, largest_a, _mm512_reduce_add_epi32(_mm512_add_epi32(low, high)));
        }
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
        const size_t first = (size_t)token * groups, entry = rows.fine ? 2 * first : first;
        numbers = rows.numbers + first * kGroup;
        scales = rows.scales + entry;
        sums = rows.sums + entry;
        totals = rows.totals + entry;
    }

    // Where scale, sum and total of a group, or of a half, of token t are.
    template <Span S>
    size_t entry(int t, size_t group) const {
        const size_t at = (size_t)t * groups + group;
        return S == Span::Group ? at : 2 * at + (S == Span::Second ? 1 : 0);
    }
};

// Of more tokens than one walk through the weights serves, the first would wait for the memory and the others find them
// in a cache: so the others ask for the tiles that come next, each for its share of the groups.
struct Turn {
    const uint8_t* next[2];
    int number, of;
};

// Where a walk is in `R` tiles.
template <int R, int T>
class Stream {
  public:
    const uint8_t* at[R];
    const uint8_t* ahead[R];  // what is fetched when `at` is read

    Stream(const uint8_t* const* tiles, const Turn& turn) : turn_(turn), tiles_(tiles), due_((size_t)turn.number - 1) {
        for (int r = 0; r < R; ++r) at[r] = tiles[r];
    }

    void look_ahead(size_t group) {
        if (T == 1 || turn_.number == 0) {
            for (int r = 0; r < R; ++r) ahead[r] = at[r] + (T == 1 ? kAheadForOne : kAhead);
            return;
        }
        const bool mine = group == due_;
        due_ += mine ? (size_t)turn_.of - 1 : 0;
        for (int r = 0; r < R; ++r) ahead[r] = mine ? turn_.next[r] + (at[r] - tiles_[r]) : at[r];
    }

    void fetch(size_t offset) const {
        for (int r = 0; r < R; ++r) _mm_prefetch((const char*)ahead[r] + offset, kInto<T>);
    }

    void step(size_t bytes) {
        for (int r = 0; r < R; ++r) at[r] += bytes;
    }

  private:
    const Turn& turn_;
    const uint8_t* const* tiles_;
    size_t due_;
};

// Adds to the sums of `R` tiles the products of the numbers of a group, or of a half, `offset` bytes from `at`, with
// the group's activations `a` of `T` tokens.
template <Span S, int R, int T>
inline __attribute__((always_inline)) void add_dots_q4(const Stream<R, T>& tiles, size_t offset, const int8_t* a,
                                                       size_t groups, __m512i (&dot)[R][T]) {
    const __m512i low_bits = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int line = 0; line < 4; ++line) {
        __m512i low[R], high[R];
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) {
            const __m512i both = _mm512_load_si512(tiles.at[r] + offset + 64 * line);
            if constexpr (S != Span::Second) {
                _mm_prefetch((const char*)tiles.ahead[r] + offset + 64 * line, kInto<T>);
            }
            low[r] = _mm512_and_si512(both, low_bits);
            high[r] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low_bits);
        }
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) {
            const int8_t* row = a + (size_t)t * groups * kGroup;
            const __m512i a_low = broadcast4(row + 4 * line), a_high = broadcast4(row + 16 + 4 * line);
#pragma GCC unroll 2
            for (int r = 0; r < R; ++r) {
                if constexpr (S != Span::Second) dot[r][t] = _mm512_dpbusd_epi32(dot[r][t], low[r], a_low);
                if constexpr (S != Span::First) dot[r][t] = _mm512_dpbusd_epi32(dot[r][t], high[r], a_high);
            }
        }
    }
}

template <Span S, int R, int T>
inline __attribute__((always_inline)) void add_dots_q8(const Stream<R, T>& tiles, size_t offset, const int8_t* a,
                                                       size_t groups, __m512i (&dot)[R][T]) {
#pragma GCC unroll 8
    for (int line = S == Span::Second ? 4 : 0; line < (S == Span::First ? 4 : 8); ++line) {
        __m512i weights[R];
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) {
            weights[r] = _mm512_load_si512(tiles.at[r] + offset + 64 * line);
            _mm_prefetch((const char*)tiles.ahead[r] + offset + 64 * line, kInto<T>);
        }
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) {
            const __m512i x = broadcast4(a + (size_t)t * groups * kGroup + 4 * line);
#pragma GCC unroll 2
            for (int r = 0; r < R; ++r) dot[r][t] = _mm512_dpbusd_epi32(dot[r][t], weights[r], x);
        }
    }
}

// Adds to the sums the products of a group, or of a half, whose numbers and scales are so many bytes from `at`.
template <Kind K, Span S, int R, int T>
inline __attribute__((always_inline)) void add_span(const Stream<R, T>& tiles, size_t numbers, size_t scales,
                                                    const Columns& columns, size_t group, Sums<R, T>& sums) {
    constexpr int kOffset = K == Kind::Q8 ? 128 : K == Kind::Q4Symmetric ? 8 : 0;
    __m512i dot[R][T];
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
        const __m512i start = _mm512_set1_epi32(kOffset ? -kOffset * columns.totals[columns.entry<S>(t, group)] : 0);
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) dot[r][t] = start;
    }
    const int8_t* a = columns.numbers + group * kGroup;
    if constexpr (K == Kind::Q8) {
        add_dots_q8<S, R, T>(tiles, numbers, a, columns.groups, dot);
    } else {
        add_dots_q4<S, R, T>(tiles, numbers, a, columns.groups, dot);
    }
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) {
        const __m512 scale = halves(tiles.at[r] + scales);
        [[maybe_unused]] const __m512 minimum = K == Kind::Q4 ? halves(tiles.at[r] + scales + kScales) : scale;
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) {
            const size_t of = columns.entry<S>(t, group);
            if constexpr (K == Kind::Q4) {
                sums.of[r][t] = _mm512_fmadd_ps(minimum, _mm512_set1_ps(columns.sums[of]), sums.of[r][t]);
            }
            const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(dot[r][t]), _mm512_set1_ps(columns.scales[of]));
            sums.of[r][t] = _mm512_fmadd_ps(product, scale, sums.of[r][t]);
        }
    }
}

template <Kind K, bool Fine, int R, int T>
inline __attribute__((always_inline)) void add_group(const Stream<R, T>& tiles, size_t numbers, size_t scales,
                                                     const Columns& columns, size_t group, Sums<R, T>& sums) {
    if constexpr (Fine) {
        add_span<K, Span::First, R, T>(tiles, numbers, scales, columns, group, sums);
        add_span<K, Span::Second, R, T>(tiles, numbers, scales, columns, group, sums);
    } else {
        add_span<K, Span::Group, R, T>(tiles, numbers, scales, columns, group, sums);
    }
}

template <bool Fine, int R, int T>
inline __attribute__((always_inline)) void tiles_q4(Stream<R, T>& tiles, const Rows& rows, int token,
                                                    Sums<R, T>& sums) {
    const Columns columns(rows, token);
    clear(sums);
    for (size_t group = 0; group < columns.groups; ++group) {
        tiles.look_ahead(group);
        add_group<Kind::Q4, Fine, R, T>(tiles, 0, kQ4Numbers, columns, group, sums);
        tiles.fetch(kQ4Numbers);
        tiles.step(kQ4GroupBytes);
    }
}

template <Kind K, bool Fine, int R, int T>
inline __attribute__((always_inline)) void tiles_in_pairs(Stream<R, T>& tiles, const Rows& rows, int token,
                                                          Sums<R, T>& sums) {
    constexpr size_t kNumbers = K == Kind::Q8 ? kQ8Numbers : kQ4Numbers;
    const Columns columns(rows, token);
    clear(sums);
    const size_t in_pairs = columns.groups / 2 * 2;
    size_t group = 0;
    while (group < in_pairs) {
        tiles.look_ahead(group);
        if constexpr (T <= 2) {  // one turn for both, where that is not too much code to be read quickly
            add_group<K, Fine, R, T>(tiles, 0, 2 * kNumbers, columns, group, sums);
            add_group<K, Fine, R, T>(tiles, kNumbers, 2 * kNumbers + kScales, columns, group + 1, sums);
            tiles.fetch(2 * kNumbers);
            tiles.step(pair_bytes(kNumbers));
            group += 2;
        } else {
            const bool second = group % 2;
            add_group<K, Fine, R, T>(tiles, 0, second ? kNumbers + kScales : 2 * kNumbers, columns, group, sums);
            tiles.step(second ? kNumbers + 2 * kScales : kNumbers);
            ++group;
        }
    }
    if (group == columns.groups) return;
    tiles.look_ahead(group);
    add_group<K, Fine, R, T>(tiles, 0, kNumbers, columns, group, sums);
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

template <Kind K, bool Fine, int R, int T>
inline __attribute__((always_inline)) void multiply_tiles(const uint8_t* const* tiles, const Rows& rows, int token,
                                                          const Turn& turn, Sums<R, T>& sums) {
    if constexpr (K == Kind::Float32) {
        tiles_float32<R, T>(tiles, rows, token, sums);
    } else {
        Stream<R, T> stream(tiles, turn);
        if constexpr (K == Kind::Q4) {
            tiles_q4<Fine, R, T>(stream, rows, token, sums);
        } else {
            tiles_in_pairs<K, Fine, R, T>(stream, rows, token, sums);
        }
    }
}

struct Target {
    float* out;  // of the first tile and token 0
    size_t ld;
    Store store;
};

template <Kind K, bool Fine, int R, int T>
__attribute__((noinline)) void plain(const uint8_t* const* tiles, const Rows& rows, int token, const Turn& turn,
                                     const Target& target) {
    Sums<R, T> sums;
    multiply_tiles<K, Fine, R, T>(tiles, rows, token, turn, sums);
    for (int t = 0; t < T; ++t) {
        for (int r = 0; r < R; ++r) {
            float* out = target.out + (size_t)(token + t) * target.ld + (size_t)r * kLanes;
            const __m512 sum = sums.of[r][t];
            _mm512_storeu_ps(out, target.store == Store::Add ? _mm512_add_ps(_mm512_loadu_ps(out), sum) : sum);
        }
    }
}

template <Kind K, int R, int T>
__attribute__((noinline)) void gated(const uint8_t* const* tiles, const Rows& rows, int token, const Turn& turn,
                                     const Target& target) {
    static_assert(R == 2);
    Sums<R, T> sums;
    multiply_tiles<K, false, R, T>(tiles, rows, token, turn, sums);
    for (int t = 0; t < T; ++t) {
        _mm512_storeu_ps(target.out + (size_t)(token + t) * target.ld,
                         _mm512_mul_ps(silu_wide(sums.of[0][t]), sums.of[1][t]));
    }
}

using Step = void (*)(const uint8_t* const* tiles, const Rows& rows, int token, const Turn& turn,
                      const Target& target);

template <Kind K, bool Fine, int R>
constexpr Step kPlain[kMostTokens + 1] = {nullptr,              plain<K, Fine, R, 1>, plain<K, Fine, R, 2>,
                                          plain<K, Fine, R, 3>, plain<K, Fine, R, 4>, plain<K, Fine, R, 5>,
                                          plain<K, Fine, R, 6>, plain<K, Fine, R, 7>, plain<K, Fine, R, 8>};
template <Kind K>
constexpr Step kGated[kMostTokens + 1] = {nullptr,        gated<K, 2, 1>, gated<K, 2, 2>,
                                          gated<K, 2, 3>, gated<K, 2, 4>, gated<K, 2, 5>,
                                          gated<K, 2, 6>, gated<K, 2, 7>, gated<K, 2, 8>};

// `ahead`: how far behind `tiles` those lie that come next.
void all_tokens(const Step* steps, const uint8_t* const* tiles, size_t ahead, const Rows& rows, int tokens,
                const Target& target) {
    const int halves = tokens > kTokens && tokens <= kMostTokens ? 2 : 1;
    const int of = halves + (tokens > kMostTokens ? (tokens - kMostTokens + kTokens - 1) / kTokens : 0);
    Turn turn = {{tiles[0] + ahead, tiles[1] + ahead}, 0, of};
    for (int token = 0; token < tokens; ++turn.number) {
        const int left = tokens - token;
        const int count = left > kMostTokens ? kTokens : turn.number == 0 ? (left + halves - 1) / halves : left;
        steps[count](tiles, rows, token, turn, target);
        token += count;
    }
}

template <Kind K, bool Fine>
void multiply_kind(const Tiles& tiles, const Rows& rows, int tokens, float* out, size_t ld, Store store) {
    const Matrix& matrix = *tiles.matrix;
    const uint8_t* start = matrix.memory.bytes();
    for (int tile = tiles.begin; tile < tiles.end;) {
        const uint8_t* at[2] = {start + matrix.tile_bytes * (size_t)tile,
                                start + matrix.tile_bytes * (size_t)(tile + 1)};
        const Target target = {out + (size_t)tile * kLanes, ld, store};
        const bool two = tile + 1 < tiles.end && tokens > 1;  // for one token, one stream from memory is fastest
        const size_t ahead = tile + 2 < tiles.end ? 2 * matrix.tile_bytes : 0;
        all_tokens(two ? kPlain<K, Fine, 2> : kPlain<K, Fine, 1>, at, ahead, rows, tokens, target);
        tile += two ? 2 : 1;
    }
}

template <Kind K>
void multiply_rows(const Tiles& tiles, const Rows& rows, int tokens, float* out, size_t ld, Store store) {
    if (rows.fine) return multiply_kind<K, true>(tiles, rows, tokens, out, ld, store);
    multiply_kind<K, false>(tiles, rows, tokens, out, ld, store);
}

void wide_multiply(const Tiles& tiles, const Rows& rows, int tokens, float* out, size_t ld, Store store) {
    switch (tiles.matrix->kind) {
        case Kind::Q4:
            return multiply_rows<Kind::Q4>(tiles, rows, tokens, out, ld, store);
        case Kind::Q4Symmetric:
            return multiply_rows<Kind::Q4Symmetric>(tiles, rows, tokens, out, ld, store);
        case Kind::Q8:
            return multiply_rows<Kind::Q8>(tiles, rows, tokens, out, ld, store);
        case Kind::Float32:
            return multiply_kind<Kind::Float32, false>(tiles, rows, tokens, out, ld, store);
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
        const size_t ahead = tile + 1 < gate.matrix->tiles ? gate.matrix->tile_bytes : 0;
        all_tokens(steps, both, ahead, rows, tokens, {out + (size_t)tile * kLanes, ld, Store::Set});
    }
}

void wide_gate(float* gate, const float* up, int n) {
    for (int i = 0; i < n; i += kLanes) {
        _mm512_storeu_ps(gate + i, _mm512_mul_ps(silu_wide(_mm512_loadu_ps(gate + i)), _mm512_loadu_ps(up + i)));
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

void wide_to_bfloat(const float* x, int n, uint16_t* out) {
    const __m512 most = _mm512_set1_ps(0x1p50f), least = _mm512_set1_ps(-0x1p50f);
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        const __m512 v = _mm512_max_ps(_mm512_min_ps(_mm512_loadu_ps(x + i), most), least);
        const __mmask16 large = _mm512_cmp_ps_mask(_mm512_abs_ps(v), _mm512_set1_ps(0x1p-50f), _CMP_NLT_UQ);
        const __m512i bits = _mm512_castps_si512(round_to_bfloat(v));
        _mm256_storeu_si256((__m256i*)(out + i), _mm512_maskz_cvtepi32_epi16(large, _mm512_srli_epi32(bits, 16)));
    }
    to_bfloat(x + i, n - i, out + i);
}

float wide_powers(const float* x, int n, float largest, float factor, float* out) {
    __m512 sum = _mm512_setzero_ps();
    for (int i = 0; i < n; i += kLanes) {
        const __m512 below = _mm512_sub_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(largest));
        const __m512 exponent = _mm512_mul_ps(below, _mm512_set1_ps(factor));
        const __mmask16 kept = _mm512_cmp_ps_mask(exponent, _mm512_set1_ps(kLeastOfPowers), _CMP_GE_OQ);
        const __m512 power = _mm512_maskz_mov_ps(kept, exp2_wide(exponent));
        _mm512_storeu_ps(out + i, power);
        sum = _mm512_add_ps(sum, power);
    }
    return add_lanes(sum);
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

constexpr Ops table(const char* name, decltype(Ops::attend) attend, decltype(Ops::attend_small) attend_small) {
    return {name,           wide_rms_norm,  wide_quantise, wide_multiply, wide_multiply_gated, wide_gate, rotate,
            wide_to_bfloat, attend,         wide_merge,    finish,        wide_products,       to_small,  attend_small,
            wide_powers,    &kAvx512TuneOps};
}

constexpr Ops kWithoutBf16 = table("avx512", avx512_attend, avx512_attend_small);
constexpr Ops kWithBf16 = table("avx512-bf16", avx512_bf16_attend, avx512_bf16_attend_small);

constexpr Ops with_tiles(Ops ops) {
    ops.name = "amx";
    ops.paired = true;
    ops.multiply = amx_multiply;
    ops.multiply_gated = amx_multiply_gated;
    ops.products = amx_products;
    ops.attend = amx_attend;
    return ops;
}

}  // namespace

// Made when the program is: code of this file that ran when it is loaded would end it on other processors.
constinit const Ops kAvx512Ops = kWithoutBf16;
constinit const Ops kAvx512Bf16Ops = kWithBf16;
constinit const Ops kAmxOps = with_tiles(kWithBf16);

}  // namespace empu
