// Attention with the tile registers of AMX: a row of a block of the cache, 16 pairs, is a row of the second operand.
#define EMPU_BF16 1
#include "kernels/avx512/attend.hpp"
#include "kernels/amx/tile_registers.hpp"

namespace empu {

namespace {

constexpr int kFewQueries = 5;  // for which the registers are too large
constexpr int kQueries = 16;    // at once
constexpr int kPairs = 16;      // of one product

// Sums in 0 to 3, 4 queries or weights, 5 keys or values.
TileSetup for_queries(int queries) {
    TileSetup setup;
    for (int tile = 0; tile < 5; ++tile) setup.shape(tile, queries, 4 * kLanes);
    setup.shape(5, kPairs, 4 * kLanes);
    return setup;
}

// out (queries, 64) = A B for the first `columns` of 64: A in `depth` / 2 pairs, its rows `lda` bytes apart, B (depth /
// 2, columns, 2), its rows `ldb` bytes apart.
inline void product(const uint16_t* a, size_t lda, const uint16_t* b, size_t ldb, int depth, int columns, float* out) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int d = 0; d < depth; d += 2 * kPairs, a += 2 * kPairs, b += kPairs * ldb / sizeof *b) {
        _tile_loadd(4, a, lda);
        _tile_loadd(5, b, ldb);
        _tile_dpbf16ps(0, 4, 5);
        if (columns > kLanes) {
            _tile_loadd(5, b + 2 * kLanes, ldb);
            _tile_dpbf16ps(1, 4, 5);
        }
        if (columns > 2 * kLanes) {
            _tile_loadd(5, b + 4 * kLanes, ldb);
            _tile_dpbf16ps(2, 4, 5);
        }
        if (columns > 3 * kLanes) {
            _tile_loadd(5, b + 6 * kLanes, ldb);
            _tile_dpbf16ps(3, 4, 5);
        }
    }
    constexpr size_t kRow = kBlockKeys * sizeof(float);
    _tile_stored(0, out, kRow);
    _tile_stored(1, out + kLanes, kRow);
    _tile_stored(2, out + 2 * kLanes, kRow);
    _tile_stored(3, out + 3 * kLanes, kRow);
}

void attend_some(int queries, const uint16_t* q, int ldq, const CacheBlock& block, int head_dim, const int* low,
                 const int* high, const Partial& out, Store store) {
    alignas(64) float products[kQueries][kBlockKeys];
    alignas(64) uint16_t weights[kQueries][kBlockKeys];
    alignas(64) float tops[kLanes], sums[kLanes];
    int keys = 0;
    for (int i = 0; i < queries; ++i) keys = high[i] > keys ? high[i] : keys;
    product(q, (size_t)ldq * sizeof *q, block.keys, 2 * kBlockKeys * sizeof *q, head_dim, keys, products[0]);
    for (int i = 0; i < queries; ++i) {
        __m512 scores[4];
        for (int w = 0; w < 4; ++w) scores[w] = _mm512_load_ps(products[i] + w * kLanes);
        sums[i] = weigh_scores(block, scores, low[i], high[i], weights[i], tops[i]);
    }
    Shares shares;
    if (store == Store::Add) {
        shares = add_weights(queries, tops, sums, out.largest, out.weight);
    } else {
        for (int i = 0; i < queries; ++i) out.largest[i] = tops[i], out.weight[i] = sums[i];
    }
    tiles_read_memory();
    const int width = padded(head_dim);
    for (int d = 0; d < width; d += kBlockKeys) {
        const int columns = width - d < kBlockKeys ? width - d : kBlockKeys;
        product(weights[0], sizeof weights[0], block.values + 2 * d, 2 * (size_t)width * sizeof *q, keys, columns,
                products[0]);
        for (int i = 0; i < queries; ++i) {
            float* to = out.values + (size_t)i * (size_t)width + d;
            for (int w = 0; w < columns; w += kLanes) {
                __m512 value = _mm512_load_ps(products[i] + w);
                if (store == Store::Add) {
                    value = _mm512_fmadd_ps(_mm512_loadu_ps(to + w), _mm512_set1_ps(shares.old_ones[i]),
                                            _mm512_mul_ps(value, _mm512_set1_ps(shares.new_ones[i])));
                }
                _mm512_storeu_ps(to + w, value);
            }
        }
    }
}

}  // namespace

EMPU_ATTEND(amx_attend, CacheBlock) {
    if (head_dim % (2 * kPairs) != 0) {
        return avx512_bf16_attend(q, ldq, queries, block, head_dim, low, high, out, store);
    }
    if (queries <= kFewQueries) {
        return avx512_paired_attend(q, ldq, queries, block, head_dim, low, high, out, store);
    }
    const int turns = (queries + kQueries - 1) / kQueries;
    const size_t width = (size_t)padded(head_dim);
    for (int turn = 0, first = 0; turn < turns; ++turn) {
        const int end = queries * (turn + 1) / turns;
        const TilesInUse in_use(for_queries(end - first));
        attend_some(end - first, q + (size_t)first * (size_t)ldq, ldq, block, head_dim, low + first, high + first,
                    {out.largest + first, out.weight + first, out.values + (size_t)first * width}, store);
        first = end;
    }
}

}  // namespace empu
