// Attention with AMX tile registers: a row of a cache block, 16 pairs, is a row of the second operand.
#define EMPU_BF16 1
#include "kernels/avx512/attend.hpp"

#include "kernels/amx/tile_registers.hpp"

namespace empu {

namespace {

constexpr int kMaxQueriesWithoutTiles = 5;  // with so few, tile registers are too large
constexpr int kQueries = 16;                // at once
constexpr int kPairs = 16;                  // of one product

// Tile registers: 0 to 3 hold sums, 4 queries or weights, 5 keys or values.
TileConfig config_for(int queries) {
    TileConfig config;
    for (int tile = 0; tile < 5; ++tile) config.set_tile(tile, queries, 4 * kLanes);
    config.set_tile(5, kPairs, 4 * kLanes);
    return config;
}

// out (queries, 64) = A B for the first `columns` of 64 columns. A has `depth` / 2 pairs in a row, its rows `lda` bytes
// apart; B is (depth / 2, columns, 2), its rows `ldb` bytes apart.
inline void matmul(const uint16_t* a, size_t lda, const uint16_t* b, size_t ldb, int depth, int columns, float* out) {
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
    constexpr size_t kRowBytes = kBlockKeys * sizeof(float);
    _tile_stored(0, out, kRowBytes);
    _tile_stored(1, out + kLanes, kRowBytes);
    _tile_stored(2, out + 2 * kLanes, kRowBytes);
    _tile_stored(3, out + 3 * kLanes, kRowBytes);
}

void attend_fixed(int queries, const uint16_t* q, int ldq, const CacheBlockBf16& block, int head_dim, const int* low,
                  const int* high, const PartialAttention& out, Store store) {
    alignas(64) float products[kQueries][kBlockKeys];
    alignas(64) uint16_t weights[kQueries][kBlockKeys];
    alignas(64) float block_max[kLanes], block_sums[kLanes];
    int keys = 0;
    for (int i = 0; i < queries; ++i) keys = high[i] > keys ? high[i] : keys;
    matmul(q, (size_t)ldq * sizeof *q, block.keys, 2 * kBlockKeys * sizeof *q, head_dim, keys, products[0]);
    for (int i = 0; i < queries; ++i) {
        __m512 scores[4];
        for (int w = 0; w < 4; ++w) scores[w] = _mm512_load_ps(products[i] + w * kLanes);
        block_sums[i] = softmax_scores(block, scores, low[i], high[i], weights[i], block_max[i]);
    }
    MergeFactors factors;
    if (store == Store::Add) {
        factors = update_softmax(queries, block_max, block_sums, out.max_score, out.weight_sum);
    } else {
        for (int i = 0; i < queries; ++i) out.max_score[i] = block_max[i], out.weight_sum[i] = block_sums[i];
    }
    memory_barrier();
    const int width = padded(head_dim);
    for (int d = 0; d < width; d += kBlockKeys) {
        const int columns = width - d < kBlockKeys ? width - d : kBlockKeys;
        matmul(weights[0], sizeof weights[0], block.values + 2 * d, 2 * (size_t)width * sizeof *q, keys, columns,
               products[0]);
        for (int i = 0; i < queries; ++i) {
            float* target = out.values + (size_t)i * (size_t)width + d;
            for (int w = 0; w < columns; w += kLanes) {
                __m512 value = _mm512_load_ps(products[i] + w);
                if (store == Store::Add) {
                    value = _mm512_fmadd_ps(_mm512_loadu_ps(target + w), _mm512_set1_ps(factors.old[i]),
                                            _mm512_mul_ps(value, _mm512_set1_ps(factors.part[i])));
                }
                _mm512_storeu_ps(target + w, value);
            }
        }
    }
}

}  // namespace

EMPU_ATTEND(amx_attend, CacheBlockBf16) {
    if (head_dim % (2 * kPairs) != 0) {
        return avx512_bf16_attend(q, ldq, queries, block, head_dim, low, high, out, store);
    }
    if (queries <= kMaxQueriesWithoutTiles) {
        return avx512_amx_order_attend(q, ldq, queries, block, head_dim, low, high, out, store);
    }
    const int batches = (queries + kQueries - 1) / kQueries;
    const size_t width = (size_t)padded(head_dim);
    for (int batch = 0, first = 0; batch < batches; ++batch) {
        const int end = queries * (batch + 1) / batches;
        const TileConfigScope in_use(config_for(end - first));
        attend_fixed(end - first, q + (size_t)first * (size_t)ldq, ldq, block, head_dim, low + first, high + first,
                     {out.max_score + first, out.weight_sum + first, out.values + (size_t)first * width}, store);
        first = end;
    }
}

}  // namespace empu
