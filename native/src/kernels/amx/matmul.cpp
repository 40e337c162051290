// Products with AMX. One instruction multiplies a group of 16 tokens by the same group of a tile's 16 rows. A line of a
// packed tile (four columns of each row) is a row of its second operand without conversion. While such instructions
// run, half of the AVX-512 units are idle. So the products of a panel and the sums of a panel alternate.
#include "kernels/amx/matmul.hpp"

#include <cpuid.h>

#include "kernels/amx/tile_registers.hpp"
#include "kernels/avx512/vector.hpp"

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace empu {

extern const Ops kAvx512Bf16Ops;

namespace {

constexpr int kTokens = kLanes;    // in one tile register
constexpr int kMinTokens = 24;     // with fewer, AVX-512 is faster
constexpr int kMinLastTokens = 9;  // likewise in the last, partly filled register
constexpr int kMaxTokens = 256;    // whose sums are kept at once
constexpr int kPanelParts = 6;     // groups or half groups whose products fit in the first-level cache
constexpr int kTilesAtOnce = 2;
constexpr size_t kPrefetch = 16 * 1024;  // prefetch distance in bytes, to the second-level cache

// Tile registers: 0 to 3 hold sums, 4 activations, 5 and 6 weights.
TileConfig config_for(int part_columns) {
    TileConfig config;
    for (int tile = 0; tile < 4; ++tile) config.set_tile(tile, kTokens, 4 * kLanes);
    config.set_tile(4, kTokens, part_columns);
    config.set_tile(5, part_columns / 4, 4 * kLanes);
    config.set_tile(6, part_columns / 4, 4 * kLanes);
    return config;
}

// Some groups of a tile, unpacked: values of any format as 8 lines of signed bytes, scales and minima.
struct Panel {
    alignas(64) uint8_t values[kPanelParts][kQ8ValueBytes];
    alignas(64) float scales[kPanelParts][kLanes], minima[kPanelParts][kLanes];
};

template <WeightFormat F>
void unpack(const uint8_t* tile, int groups, int begin, int end, Panel& panel) {
    constexpr size_t kValueBytes = F == WeightFormat::Q8 ? kQ8ValueBytes : kQ4ValueBytes;
    const __m512i low_nibble = _mm512_set1_epi8(15), eight = _mm512_set1_epi8(8), top_bit = _mm512_set1_epi8(-128);
    const auto centred = [&](__m512i nibbles) {
        return F == WeightFormat::Q4Symmetric ? _mm512_sub_epi8(nibbles, eight) : nibbles;
    };
    for (int group = begin; group < end; ++group) {
        const GroupOffset offset = group_offset(F, groups, group);
        const uint8_t *values = tile + offset.values, *scales = tile + offset.scales;
        uint8_t* out = panel.values[group - begin];
        for (size_t line = 0; line < kValueBytes; line += 64) {
            _mm_prefetch((const char*)values + kPrefetch + line, _MM_HINT_T1);
            const __m512i bytes = _mm512_load_si512(values + line);
            if constexpr (F == WeightFormat::Q8) {
                _mm512_store_si512(out + line, _mm512_xor_si512(bytes, top_bit));
            } else {
                _mm512_store_si512(out + line, centred(_mm512_and_si512(bytes, low_nibble)));
                _mm512_store_si512(out + kQ4ValueBytes + line,
                                   centred(_mm512_and_si512(_mm512_srli_epi16(bytes, 4), low_nibble)));
            }
        }
        _mm_prefetch((const char*)scales + kPrefetch, _MM_HINT_T1);
        _mm512_store_ps(panel.scales[group - begin], load_halves(scales));
        if (F == WeightFormat::Q4) _mm512_store_ps(panel.minima[group - begin], load_halves(scales + kScaleBytes));
    }
}

enum class Epilogue { Set, Add, Swiglu };

// What happens with the final sums: `out`, whose rows are `ld` apart, is set to them or they are added to it; or, with
// Swiglu, `out` is set to silu(sums of the first tile) * sums of the second.
struct Output {
    Epilogue epilogue;
    float* out;
    size_t ld;
};

// Integer products of 16 tokens, for each part (group or half group) of a panel.
struct Products {
    alignas(64) int32_t values[kPanelParts][kTilesAtOnce][kTokens][kLanes];
};

struct Sums {
    alignas(64) float values[kMaxTokens][kTilesAtOnce][kLanes];
};

// Start the products of a part with one tile or two. With `store`, first save to `previous` what the registers hold
// from an earlier part, as late as possible, since a product has a long latency.
template <int R, bool IsOdd>
inline __attribute__((always_inline)) void multiply_part(const int8_t* activations, size_t cols, const uint8_t* first,
                                                         const uint8_t* second, bool store,
                                                         int32_t (*previous)[kTokens][kLanes]) {
    constexpr int kRow = 4 * kLanes;
    _tile_loadd(4, activations, cols);
    _tile_loadd(5, first, kRow);
    if constexpr (IsOdd) {
        if (store) _tile_stored(2, previous[0], kRow);
        _tile_zero(2);
        _tile_dpbssd(2, 4, 5);
    } else {
        if (store) _tile_stored(0, previous[0], kRow);
        _tile_zero(0);
        _tile_dpbssd(0, 4, 5);
    }
    if constexpr (R == 1) return;
    _tile_loadd(6, second, kRow);
    if constexpr (IsOdd) {
        if (store) _tile_stored(3, previous[1], kRow);
        _tile_zero(3);
        _tile_dpbssd(3, 4, 6);
    } else {
        if (store) _tile_stored(1, previous[1], kRow);
        _tile_zero(1);
        _tile_dpbssd(1, 4, 6);
    }
}

// `activations`: quantised values of the first token, its rows `cols` apart; a part is `kPartBytes` of them.
template <int R, size_t kPartBytes>
void multiply_panels(const Panel (&panels)[kTilesAtOnce], int parts, const int8_t* activations, size_t cols,
                     Products& products) {
    constexpr int kRow = 4 * kLanes;
    const uint8_t *first = panels[0].values[0], *second = panels[1].values[0];
    auto* previous = products.values;
    for (int part = 0; part < parts; ++part, ++previous) {
        const bool store = part >= 2;
        if (part % 2) {
            multiply_part<R, true>(activations, cols, first, second, store, previous[store ? -2 : 0]);
        } else {
            multiply_part<R, false>(activations, cols, first, second, store, previous[store ? -2 : 0]);
        }
        activations += kPartBytes, first += kPartBytes * kLanes, second += kPartBytes * kLanes;
    }
    auto* even = products.values[(parts - 1) / 2 * 2];
    _tile_stored(0, even[0], kRow);
    if constexpr (R == 2) _tile_stored(1, even[1], kRow);
    if (parts == 1) return;
    auto* odd = products.values[parts / 2 * 2 - 1];
    _tile_stored(2, odd[0], kRow);
    if constexpr (R == 2) _tile_stored(3, odd[1], kRow);
}

constexpr int kTokensInRegisters = 8;  // more sums would not stay in registers

// Add the products of 8 of the 16 tokens, from `token` on, to their sums. After the last panel, write the sums of the
// first `count` tokens to the output.
template <bool Minima, bool HalfGroups, int R>
__attribute__((noinline)) void add_products(const Panel (&panels)[kTilesAtOnce], int parts, const Products& products,
                                            const float* tile_scales, int token, bool is_first, bool is_last, int count,
                                            float (*sums)[kTilesAtOnce][kLanes], const Output& output) {
    constexpr int kParts = HalfGroups ? 2 : 1;
    __m512 sum[kTokensInRegisters][R];
#pragma GCC unroll 8
    for (int t = 0; t < kTokensInRegisters; ++t) {
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) sum[t][r] = is_first ? _mm512_setzero_ps() : _mm512_load_ps(sums[t][r]);
    }
    tile_scales += token;
    for (int part = 0; part < parts; ++part, tile_scales += kTileScaleFloats) {
        __m512 scale[R];
        [[maybe_unused]] __m512 minimum[R];
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) {
            scale[r] = _mm512_load_ps(panels[r].scales[part / kParts]);
            if (Minima) minimum[r] = _mm512_load_ps(panels[r].minima[part / kParts]);
        }
#pragma GCC unroll 8
        for (int t = 0; t < kTokensInRegisters; ++t) {
            const __m512 a = _mm512_set1_ps(tile_scales[t]);
            [[maybe_unused]] const __m512 scaled_sum = _mm512_set1_ps(tile_scales[kLanes + t]);
#pragma GCC unroll 2
            for (int r = 0; r < R; ++r) {
                if constexpr (Minima) sum[t][r] = _mm512_fmadd_ps(minimum[r], scaled_sum, sum[t][r]);
                const __m512i dot = _mm512_load_si512(products.values[part][r][token + t]);
                const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(dot), a);
                sum[t][r] = _mm512_fmadd_ps(product, scale[r], sum[t][r]);
            }
        }
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTokensInRegisters; ++t) {
        float* out = output.out + (size_t)t * output.ld;
        if (!is_last) {
            for (int r = 0; r < R; ++r) _mm512_store_ps(sums[t][r], sum[t][r]);
        } else if (t < count && output.epilogue == Epilogue::Swiglu) {
            _mm512_storeu_ps(out, _mm512_mul_ps(simd_silu(sum[t][0]), sum[t][R - 1]));
        } else if (t < count) {
            for (int r = 0; r < R; ++r, out += kLanes) {
                const bool is_add = output.epilogue == Epilogue::Add;
                _mm512_storeu_ps(out, is_add ? _mm512_add_ps(_mm512_loadu_ps(out), sum[t][r]) : sum[t][r]);
            }
        }
    }
}

// Multiply `R` tiles by tokens [first, first + count).
template <WeightFormat F, bool HalfGroups, int R>
void matmul_tiles(const uint8_t* const* tiles, const Activations& activations, int first, int count, Sums& sums,
                  const Output& output) {
    constexpr int kParts = HalfGroups ? 2 : 1, kGroups = kPanelParts / kParts;
    Panel panels[kTilesAtOnce];
    Products products;
    const int groups = activations.groups();
    for (int begin = 0; begin < groups; begin += kGroups) {
        const int end = begin + kGroups < groups ? begin + kGroups : groups, parts = (end - begin) * kParts;
        for (int r = 0; r < R; ++r) unpack<F>(tiles[r], groups, begin, end, panels[r]);
        memory_barrier();
        for (int block = 0; block < count; block += kTokens) {
            const size_t token = (size_t)(first + block);
            multiply_panels<R, kGroupSize / kParts>(
                panels, parts, activations.quantised + token * (size_t)activations.cols + (size_t)begin * kGroupSize,
                (size_t)activations.cols, products);
            const size_t scale = token / kLanes * (size_t)activations.scales_per_token() + (size_t)(begin * kParts);
            const float* tile_scales = activations.tile_scales + scale * kTileScaleFloats;
            for (int t = 0; t < kTokens; t += kTokensInRegisters) {
                const Output part_output = {output.epilogue, output.out + (size_t)(block + t) * output.ld, output.ld};
                add_products<F == WeightFormat::Q4, HalfGroups, R>(panels, parts, products, tile_scales, t, begin == 0,
                                                                   end == groups, count - block - t,
                                                                   sums.values + block + t, part_output);
            }
        }
    }
}

template <WeightFormat F, bool HalfGroups>
void matmul_range(const TileRange& tiles, const Activations& activations, int first, int count, float* out, size_t ld,
                  Store store) {
    const TileConfigScope in_use(config_for(HalfGroups ? kGroupSize / 2 : kGroupSize));
    Sums sums;
    for (int tile = tiles.begin; tile < tiles.end;) {
        const Output output = {store == Store::Add ? Epilogue::Add : Epilogue::Set,
                               out + (size_t)first * ld + (size_t)tile * kLanes, ld};
        const bool is_pair = tile + 1 < tiles.end;
        const uint8_t* pair[kTilesAtOnce] = {tiles.matrix->tile(tile), tiles.matrix->tile(is_pair ? tile + 1 : tile)};
        (is_pair ? matmul_tiles<F, HalfGroups, 2> : matmul_tiles<F, HalfGroups, 1>)(pair, activations, first, count,
                                                                                    sums, output);
        tile += is_pair ? 2 : 1;
    }
}

template <WeightFormat F>
void matmul_format(const TileRange& tiles, const Activations& activations, int first, int count, float* out, size_t ld,
                   Store store) {
    if (activations.half_groups) return matmul_range<F, true>(tiles, activations, first, count, out, ld, store);
    matmul_range<F, false>(tiles, activations, first, count, out, ld, store);
}

template <WeightFormat F>
void matmul_swiglu_format(const TileRange& gate, const PackedMatrix& up, const Activations& activations, int first,
                          int count, float* out, size_t ld) {
    const TileConfigScope in_use(config_for(kGroupSize));
    Sums sums;
    for (int tile = gate.begin; tile < gate.end; ++tile) {
        const uint8_t* pair[kTilesAtOnce] = {gate.matrix->tile(tile), up.tile(tile)};
        const Output output = {Epilogue::Swiglu, out + (size_t)first * ld + (size_t)tile * kLanes, ld};
        matmul_tiles<F, false, 2>(pair, activations, first, count, sums, output);
    }
}

// Return how many of the first tokens to multiply with AMX.
int tokens_for_amx(const Activations& activations, const PackedMatrix& matrix, int tokens) {
    if (!activations.tile_scales || matrix.format == WeightFormat::Float32 || tokens < kMinTokens) return 0;
    const int left = tokens % kTokens;
    return left < kMinLastTokens ? tokens - left : tokens;
}

// Call act(first, count) for blocks of at most kMaxTokens tokens.
template <typename Act>
void for_each_block(int tokens, const Act& act) {
    for (int first = 0; first < tokens; first += kMaxTokens) {
        act(first, tokens - first < kMaxTokens ? tokens - first : kMaxTokens);
    }
}

}  // namespace

void amx_matmul(const TileRange& tiles, const Activations& activations, int tokens, float* out, size_t ld,
                Store store) {
    const int amx_tokens = tokens_for_amx(activations, *tiles.matrix, tokens);
    const WeightFormat format = tiles.matrix->format;
    const auto matmul = format == WeightFormat::Q4            ? matmul_format<WeightFormat::Q4>
                        : format == WeightFormat::Q4Symmetric ? matmul_format<WeightFormat::Q4Symmetric>
                                                              : matmul_format<WeightFormat::Q8>;
    for_each_block(amx_tokens, [&](int first, int count) { matmul(tiles, activations, first, count, out, ld, store); });
    if (amx_tokens == tokens) return;
    kAvx512Bf16Ops.matmul(tiles, tokens_from(activations, amx_tokens), tokens - amx_tokens,
                          out + (size_t)amx_tokens * ld, ld, store);
}

void amx_matmul_swiglu(const TileRange& gate, const PackedMatrix& up, const Activations& activations, int tokens,
                       float* out, size_t ld) {
    const int amx_tokens = tokens_for_amx(activations, *gate.matrix, tokens);
    const WeightFormat format = gate.matrix->format;
    const auto matmul = format == WeightFormat::Q4            ? matmul_swiglu_format<WeightFormat::Q4>
                        : format == WeightFormat::Q4Symmetric ? matmul_swiglu_format<WeightFormat::Q4Symmetric>
                                                              : matmul_swiglu_format<WeightFormat::Q8>;
    for_each_block(amx_tokens, [&](int first, int count) { matmul(gate, up, activations, first, count, out, ld); });
    if (amx_tokens == tokens) return;
    kAvx512Bf16Ops.matmul_swiglu(gate, up, tokens_from(activations, amx_tokens), tokens - amx_tokens,
                                 out + (size_t)amx_tokens * ld, ld);
}

int64_t amx_int8_products(int rounds, int32_t& sum) {
    constexpr int kRows = 16, kRowBytes = 64;  // of a tile register
    TileConfig config;
    for (int tile = 0; tile < 6; ++tile) config.set_tile(tile, kRows, kRowBytes);
    const TileConfigScope in_use(config);
    alignas(64) int32_t operands[kRows * kLanes];
    memset(operands, 1, sizeof operands);
    memory_barrier();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, operands, kRowBytes);
    _tile_loadd(5, operands, kRowBytes);
    for (int round = 0; round < rounds; ++round) {
        _tile_dpbssd(0, 4, 5);
        _tile_dpbssd(1, 4, 5);
        _tile_dpbssd(2, 4, 5);
        _tile_dpbssd(3, 4, 5);
    }
    _tile_stored(0, operands, kRowBytes);
    sum += operands[0];
    return int64_t(rounds) * 4 * kRows * kLanes * kRowBytes;
}

bool amx_available() {
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
