// AMX: one instruction multiplies a group's numbers of 16 tokens with those of a tile's 16 rows. A line of a packed
// tile, four columns of each row, is a row of its second operand as it stands. While such instructions run, half of the
// other wide arithmetic rests: so they take turns.
#include "kernels/amx/matmul.hpp"

#include <cpuid.h>

#include "kernels/avx512/vector.hpp"
#include "kernels/amx/tile_registers.hpp"

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace empu {

extern const Ops kAvx512Bf16Ops;

namespace {

constexpr int kTokens = kLanes;      // of one operand
constexpr int kLeastTokens = 24;     // fewer are faster without
constexpr int kLeastInLast = 9;      // likewise of an operand that is not full
constexpr int kMostTokens = 256;     // whose sums are kept
constexpr int kPanelSpans = 6;       // whose products are kept in the first cache
constexpr int kTilesAtOnce = 2;
constexpr size_t kAhead = 16 * 1024;  // bytes that the weights are fetched before their use, to the second cache

// 0 to 3 for sums, 4 activations, 5 and 6 weights.
TileSetup for_products(int span) {
    TileSetup setup;
    for (int tile = 0; tile < 4; ++tile) setup.shape(tile, kTokens, 4 * kLanes);
    setup.shape(4, kTokens, span);
    setup.shape(5, span / 4, 4 * kLanes);
    setup.shape(6, span / 4, 4 * kLanes);
    return setup;
}

// Some groups of a tile: their numbers, of all kinds as 8 lines of signed bytes, their scales and their minima.
struct Panel {
    alignas(64) uint8_t numbers[kPanelSpans][kQ8Numbers];
    alignas(64) float scales[kPanelSpans][kLanes], minima[kPanelSpans][kLanes];
};

template <Kind K>
void unpack(const uint8_t* tile, int groups, int begin, int end, Panel& panel) {
    constexpr size_t kNumbers = K == Kind::Q8 ? kQ8Numbers : kQ4Numbers;
    const __m512i low_bits = _mm512_set1_epi8(15), eight = _mm512_set1_epi8(8), top_bit = _mm512_set1_epi8(-128);
    const auto centred = [&](__m512i four_bits) {
        return K == Kind::Q4Symmetric ? _mm512_sub_epi8(four_bits, eight) : four_bits;
    };
    for (int group = begin; group < end; ++group) {
        const Place place = place_of(K, groups, group);
        const uint8_t *at = tile + place.numbers, *scales = tile + place.scales;
        uint8_t* out = panel.numbers[group - begin];
        for (size_t line = 0; line < kNumbers; line += 64) {
            _mm_prefetch((const char*)at + kAhead + line, _MM_HINT_T1);
            const __m512i bytes = _mm512_load_si512(at + line);
            if constexpr (K == Kind::Q8) {
                _mm512_store_si512(out + line, _mm512_xor_si512(bytes, top_bit));
            } else {
                _mm512_store_si512(out + line, centred(_mm512_and_si512(bytes, low_bits)));
                _mm512_store_si512(out + kQ4Numbers + line,
                                   centred(_mm512_and_si512(_mm512_srli_epi16(bytes, 4), low_bits)));
            }
        }
        _mm_prefetch((const char*)scales + kAhead, _MM_HINT_T1);
        _mm512_store_ps(panel.scales[group - begin], halves(scales));
        if (K == Kind::Q4) _mm512_store_ps(panel.minima[group - begin], halves(scales + kScales));
    }
}

enum class Finish { Set, Add, Gate };

// Where the sums go when all groups are in them: they become, or are added to `out`, whose rows are `ld` apart; or those
// of the second tile are multiplied by what the first ones are as gates.
struct Target {
    Finish finish;
    float* out;
    size_t ld;
};

// The products of some spans of 16 tokens.
struct Products {
    alignas(64) int32_t of[kPanelSpans][kTilesAtOnce][kTokens][kLanes];
};

struct Sums {
    alignas(64) float of[kMostTokens][kTilesAtOnce][kLanes];
};

// Begins the products of a span with one tile or two; with `store`, what the registers hold is put to `done` before, as
// late as can be: a product takes long.
template <int R, bool Odd>
inline __attribute__((always_inline)) void multiply_span(const int8_t* numbers, size_t cols, const uint8_t* first,
                                                         const uint8_t* second, bool store,
                                                         int32_t (*done)[kTokens][kLanes]) {
    constexpr int kRow = 4 * kLanes;
    _tile_loadd(4, numbers, cols);
    _tile_loadd(5, first, kRow);
    if constexpr (Odd) {
        if (store) _tile_stored(2, done[0], kRow);
        _tile_zero(2);
        _tile_dpbssd(2, 4, 5);
    } else {
        if (store) _tile_stored(0, done[0], kRow);
        _tile_zero(0);
        _tile_dpbssd(0, 4, 5);
    }
    if constexpr (R == 1) return;
    _tile_loadd(6, second, kRow);
    if constexpr (Odd) {
        if (store) _tile_stored(3, done[1], kRow);
        _tile_zero(3);
        _tile_dpbssd(3, 4, 6);
    } else {
        if (store) _tile_stored(1, done[1], kRow);
        _tile_zero(1);
        _tile_dpbssd(1, 4, 6);
    }
}

// `numbers` of the first token, rows `cols` apart; a span is `kBytes` of them.
template <int R, size_t kBytes>
void multiply_panels(const Panel (&panels)[kTilesAtOnce], int spans, const int8_t* numbers, size_t cols,
                     Products& products) {
    constexpr int kRow = 4 * kLanes;
    const uint8_t *first = panels[0].numbers[0], *second = panels[1].numbers[0];
    auto* done = products.of;
    for (int span = 0; span < spans; ++span, ++done) {
        const bool store = span >= 2;
        if (span % 2) {
            multiply_span<R, true>(numbers, cols, first, second, store, done[store ? -2 : 0]);
        } else {
            multiply_span<R, false>(numbers, cols, first, second, store, done[store ? -2 : 0]);
        }
        numbers += kBytes, first += kBytes * kLanes, second += kBytes * kLanes;
    }
    auto* even = products.of[(spans - 1) / 2 * 2];
    _tile_stored(0, even[0], kRow);
    if constexpr (R == 2) _tile_stored(1, even[1], kRow);
    if (spans == 1) return;
    auto* odd = products.of[spans / 2 * 2 - 1];
    _tile_stored(2, odd[0], kRow);
    if constexpr (R == 2) _tile_stored(3, odd[1], kRow);
}

constexpr int kSumTokens = 8;  // more sums do not stay in registers

// Adds the products of 8 of the 16 tokens, from `token` on, to the sums that stand there; after the last panel they go
// to the target, those of the first `wanted` tokens.
template <bool Minima, bool Fine, int R>
__attribute__((noinline)) void add_products(const Panel (&panels)[kTilesAtOnce], int spans, const Products& products,
                                            const float* tiled, int token, bool begin, bool end, int wanted,
                                            float (*sums)[kTilesAtOnce][kLanes], const Target& target) {
    constexpr int kSpans = Fine ? 2 : 1;
    __m512 sum[kSumTokens][R];
#pragma GCC unroll 8
    for (int t = 0; t < kSumTokens; ++t) {
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) sum[t][r] = begin ? _mm512_setzero_ps() : _mm512_load_ps(sums[t][r]);
    }
    tiled += token;
    for (int span = 0; span < spans; ++span, tiled += kTiledFloats) {
        __m512 scale[R];
        [[maybe_unused]] __m512 minimum[R];
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) {
            scale[r] = _mm512_load_ps(panels[r].scales[span / kSpans]);
            if (Minima) minimum[r] = _mm512_load_ps(panels[r].minima[span / kSpans]);
        }
#pragma GCC unroll 8
        for (int t = 0; t < kSumTokens; ++t) {
            const __m512 a = _mm512_set1_ps(tiled[t]);
            [[maybe_unused]] const __m512 total = _mm512_set1_ps(tiled[kLanes + t]);
#pragma GCC unroll 2
            for (int r = 0; r < R; ++r) {
                if constexpr (Minima) sum[t][r] = _mm512_fmadd_ps(minimum[r], total, sum[t][r]);
                const __m512i dot = _mm512_load_si512(products.of[span][r][token + t]);
                const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(dot), a);
                sum[t][r] = _mm512_fmadd_ps(product, scale[r], sum[t][r]);
            }
        }
    }
#pragma GCC unroll 8
    for (int t = 0; t < kSumTokens; ++t) {
        float* out = target.out + (size_t)t * target.ld;
        if (!end) {
            for (int r = 0; r < R; ++r) _mm512_store_ps(sums[t][r], sum[t][r]);
        } else if (t < wanted && target.finish == Finish::Gate) {
            _mm512_storeu_ps(out, _mm512_mul_ps(silu_wide(sum[t][0]), sum[t][R - 1]));
        } else if (t < wanted) {
            for (int r = 0; r < R; ++r, out += kLanes) {
                const bool add = target.finish == Finish::Add;
                _mm512_storeu_ps(out, add ? _mm512_add_ps(_mm512_loadu_ps(out), sum[t][r]) : sum[t][r]);
            }
        }
    }
}

// `R` tiles and tokens [first, first + count) of rows.
template <Kind K, bool Fine, int R>
void sum_tiles(const uint8_t* const* tiles, const Rows& rows, int first, int count, Sums& sums, const Target& target) {
    constexpr int kSpans = Fine ? 2 : 1, kGroups = kPanelSpans / kSpans;
    Panel panels[kTilesAtOnce];
    Products products;
    const int groups = rows.groups();
    for (int begin = 0; begin < groups; begin += kGroups) {
        const int end = begin + kGroups < groups ? begin + kGroups : groups, spans = (end - begin) * kSpans;
        for (int r = 0; r < R; ++r) unpack<K>(tiles[r], groups, begin, end, panels[r]);
        tiles_read_memory();
        for (int block = 0; block < count; block += kTokens) {
            const size_t token = (size_t)(first + block);
            multiply_panels<R, kGroup / kSpans>(panels, spans,
                                                rows.numbers + token * (size_t)rows.cols + (size_t)begin * kGroup,
                                                (size_t)rows.cols, products);
            const size_t span = token / kLanes * (size_t)rows.spans() + (size_t)(begin * kSpans);
            const float* tiled = rows.tiled + span * kTiledFloats;
            for (int t = 0; t < kTokens; t += kSumTokens) {
                const Target to = {target.finish, target.out + (size_t)(block + t) * target.ld, target.ld};
                add_products<K == Kind::Q4, Fine, R>(panels, spans, products, tiled, t, begin == 0, end == groups,
                                                     count - block - t, sums.of + block + t, to);
            }
        }
    }
}

template <Kind K, bool Fine>
void multiply_kind(const Tiles& tiles, const Rows& rows, int first, int count, float* out, size_t ld, Store store) {
    const TilesInUse in_use(for_products(Fine ? kGroup / 2 : kGroup));
    Sums sums;
    for (int tile = tiles.begin; tile < tiles.end;) {
        const Target target = {store == Store::Add ? Finish::Add : Finish::Set,
                               out + (size_t)first * ld + (size_t)tile * kLanes, ld};
        const bool two = tile + 1 < tiles.end;
        const uint8_t* at[kTilesAtOnce] = {tiles.matrix->tile(tile), tiles.matrix->tile(two ? tile + 1 : tile)};
        (two ? sum_tiles<K, Fine, 2> : sum_tiles<K, Fine, 1>)(at, rows, first, count, sums, target);
        tile += two ? 2 : 1;
    }
}

template <Kind K>
void multiply_rows(const Tiles& tiles, const Rows& rows, int first, int count, float* out, size_t ld, Store store) {
    if (rows.fine) return multiply_kind<K, true>(tiles, rows, first, count, out, ld, store);
    multiply_kind<K, false>(tiles, rows, first, count, out, ld, store);
}

template <Kind K>
void multiply_gated(const Tiles& gate, const Matrix& up, const Rows& rows, int first, int count, float* out,
                    size_t ld) {
    const TilesInUse in_use(for_products(kGroup));
    Sums sums;
    for (int tile = gate.begin; tile < gate.end; ++tile) {
        const uint8_t* both[kTilesAtOnce] = {gate.matrix->tile(tile), up.tile(tile)};
        const Target target = {Finish::Gate, out + (size_t)first * ld + (size_t)tile * kLanes, ld};
        sum_tiles<K, false, 2>(both, rows, first, count, sums, target);
    }
}

// How many of the first tokens go into operands.
int tokens_in_tiles(const Rows& rows, const Matrix& matrix, int tokens) {
    if (!rows.tiled || matrix.kind == Kind::Float32 || tokens < kLeastTokens) return 0;
    const int left = tokens % kTokens;
    return left < kLeastInLast ? tokens - left : tokens;
}

// Calls use(first, count) for those, as many at once as sums are kept of.
template <typename Use>
void in_turns(int tokens, const Use& use) {
    for (int first = 0; first < tokens; first += kMostTokens) {
        use(first, tokens - first < kMostTokens ? tokens - first : kMostTokens);
    }
}

}  // namespace

void amx_multiply(const Tiles& tiles, const Rows& rows, int tokens, float* out, size_t ld, Store store) {
    const int done = tokens_in_tiles(rows, *tiles.matrix, tokens);
    const Kind kind = tiles.matrix->kind;
    const auto multiply = kind == Kind::Q4            ? multiply_rows<Kind::Q4>
                          : kind == Kind::Q4Symmetric ? multiply_rows<Kind::Q4Symmetric>
                                                      : multiply_rows<Kind::Q8>;
    in_turns(done, [&](int first, int count) { multiply(tiles, rows, first, count, out, ld, store); });
    if (done == tokens) return;
    kAvx512Bf16Ops.multiply(tiles, beginning_at(rows, done), tokens - done, out + (size_t)done * ld, ld, store);
}

void amx_multiply_gated(const Tiles& gate, const Matrix& up, const Rows& rows, int tokens, float* out, size_t ld) {
    const int done = tokens_in_tiles(rows, *gate.matrix, tokens);
    const Kind kind = gate.matrix->kind;
    const auto multiply = kind == Kind::Q4            ? multiply_gated<Kind::Q4>
                          : kind == Kind::Q4Symmetric ? multiply_gated<Kind::Q4Symmetric>
                                                      : multiply_gated<Kind::Q8>;
    in_turns(done, [&](int first, int count) { multiply(gate, up, rows, first, count, out, ld); });
    if (done == tokens) return;
    kAvx512Bf16Ops.multiply_gated(gate, up, beginning_at(rows, done), tokens - done, out + (size_t)done * ld, ld);
}

int64_t amx_products(int rounds, int32_t& sum) {
    constexpr int kRows = 16, kBytes = 64;  // of a register
    TileSetup setup;
    for (int tile = 0; tile < 6; ++tile) setup.shape(tile, kRows, kBytes);
    const TilesInUse in_use(setup);
    alignas(64) int32_t numbers[kRows * kLanes];
    memset(numbers, 1, sizeof numbers);
    tiles_read_memory();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, numbers, kBytes);
    _tile_loadd(5, numbers, kBytes);
    for (int round = 0; round < rounds; ++round) {
        _tile_dpbssd(0, 4, 5);
        _tile_dpbssd(1, 4, 5);
        _tile_dpbssd(2, 4, 5);
        _tile_dpbssd(3, 4, 5);
    }
    _tile_stored(0, numbers, kBytes);
    sum += numbers[0];
    return int64_t(rounds) * 4 * kRows * kLanes * kBytes;
}

bool amx_allowed() {
#if defined(__linux__)
    static const bool allowed = [] {
        constexpr unsigned kNeeded = 1u << 22 | 1u << 24 | 1u << 25;  // bfloat16, tiles, 8-bit integers
        unsigned a, b, c, d;
        if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kNeeded) != kNeeded) return false;
        constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
        return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
    }();
    return allowed;
#else
    return false;
#endif
}

}  // namespace empu
