// Ops: the table of kernels that each instruction set fills.
//
// Every table gives the same bits, except AMX in attention. Each sum has one order, which depends neither on the
// instruction set, nor on the number of tokens in the batch, nor on the threads.
//
// A product of weights and activations is, for each row and token, over groups in ascending order:
//   Q4:      acc = fma(minimum, scaled_sum, acc);  acc = fma(float(dot) * scale_a, scale_w, acc)
//   Q8:      acc = fma(float(dot - 128 * int_sum) * scale_a, scale_w, acc); Q4Symmetric with 8 for 128
//   Float32: acc = fma(weight, x, acc) over columns
// dot is exact in 32-bit integers. With `half_groups`, each half of a group counts as a group with the same weight
// scale.
//
// Attention multiplies bfloat16 values in pairs, over the elements of a head and then over positions, both ascending,
// the second of a pair first, as VDPBF16PS does:
//   score = fma(key[i + 1], q[i + 1], score);  score = fma(key[i], q[i], score);  values likewise with weights
// AMX, for heads of a multiple of 32 elements and a bfloat16 cache, does as TDPBF16PS does for each 16 pairs:
//   first = fma(key[i], q[i], first);  second = fma(key[i + 1], q[i + 1], second);  score = score + (first + second)
// A weight is 2^(score - max_score) rounded to bfloat16; the rounded weights are the ones that are summed. With an int8
// cache, the score is multiplied by the key's scale, and the weight by the value's scale and rounded again.
// Queries, keys and values lie between 2^-50 and 2^50 or are zero, so no sum leaves float32's normal range.
//
// Other sums run in 16 lanes, lane i taking elements i, i + 16, ...; the lanes are then added in halves: i with i + 8,
// i + 4, i + 2, i + 1.
#pragma once

#include <string_view>

#include "kernels/layout.hpp"
#include "kernels/tune_ops.hpp"

namespace empu {

inline constexpr int kTileScaleFloats = 2 * kLanes;
inline constexpr int kBlockKeys = 64;  // positions in one block of the KV cache
inline constexpr int kMaxHeadDim = 1024;

// Activations of some tokens, as floats and quantised to int8. Row t of `floats` has `stride` elements; those past
// `cols` are padding. Each group of 32 columns has a scale, the integer sum of its quantised values, and that sum times
// the scale. With `half_groups` each half of a group has its own three, one half after the other.
struct Activations {
    int cols = 0;
    int stride = 0;
    float* floats = nullptr;
    int8_t* quantised = nullptr;
    float* scales = nullptr;
    float* scaled_sums = nullptr;
    int32_t* int_sums = nullptr;
    bool half_groups = false;
    // Optional, for AMX: the scales and scaled sums once more, of each 16 tokens side by side:
    // (tokens / 16 rounded up, scales_per_token, 2, 16).
    float* tile_scales = nullptr;

    int groups() const { return cols / kGroupSize; }
    int scales_per_token() const { return half_groups ? 2 * groups() : groups(); }
};

// The activations from token `first` on, without `tile_scales`, whose blocks begin at every 16th token.
Activations tokens_from(const Activations& activations, int first);

enum class GroupPart { Whole, FirstHalf, SecondHalf };  // which columns of a group
enum class Store { Set, Add };

// Tiles [begin, end) of a matrix. The output is (tokens, ld), with the rows of tile i at columns 16 * i.
struct TileRange {
    const PackedMatrix* matrix;
    int begin;
    int end;
};

// One block of the KV cache for one key/value head in bfloat16, in pairs: keys (head_dim / 2, 64, 2) and values
// (32, padded head_dim, 2). A pair of values holds the same element of two neighbouring positions.
struct CacheBlockBf16 {
    const uint16_t* keys;
    const uint16_t* values;
};

// The same in int8: values of -127 to 127, and for each of the 64 positions a scale of its key and one of its value, as
// IEEE half floats.
struct CacheBlockInt8 {
    const int8_t* keys;
    const int8_t* values;
    const uint16_t* key_scales;
    const uint16_t* value_scales;
};

inline constexpr float kMinScore = -3.0e38f;  // below every score

// Attention of queries to some of the positions: per query the largest score (base 2), the sum of the weights relative
// to it, and the weighted sum of the values.
struct PartialAttention {
    float* max_score;   // (queries,)
    float* weight_sum;  // (queries,)
    float* values;      // (queries, padded head_dim)
};

// Set `partial` to attention to no positions.
inline void clear_partial(const PartialAttention& partial, int queries, int padded_head_dim) {
    for (int i = 0; i < queries; ++i) partial.max_score[i] = kMinScore, partial.weight_sum[i] = 0;
    for (size_t i = 0; i < size_t(queries) * size_t(padded_head_dim); ++i) partial.values[i] = 0;
}

struct Ops {
    const char* name;
    // out = x / rms(x) * weight; x, weight and out have round_up(n, 16) elements, those past n zero.
    void (*rms_norm)(const float* x, const float* weight, int n, float eps, float* out);
    // Quantise groups [begin, end) of row `token` to int8; `x` starts at group `begin`.
    void (*quantise)(const float* x, const Activations& activations, int token, int begin, int end);
    void (*matmul)(const TileRange& tiles, const Activations& activations, int tokens, float* out, size_t ld,
                   Store store);
    // out = silu(gate x) * (up x); both matrices have one format and shape, and the activations no half groups.
    void (*matmul_swiglu)(const TileRange& gate, const PackedMatrix& up, const Activations& activations, int tokens,
                          float* out, size_t ld);
    // gate = silu(gate) * up, n a multiple of 16.
    void (*swiglu)(float* gate, const float* up, int n);
    // Rotary embedding: rotate the pairs (x0, x1), (x2, x3), ... by their angles and multiply by `factor`.
    void (*rotate)(const float* x, const float* cosines, const float* sines, int pairs, float factor, float* out);
    // To bfloat16 for attention: to nearest, ties to even, zero below 2^-50 and at most 2^50.
    void (*to_bfloat16)(const float* x, int n, uint16_t* out);
    // Attention of `queries` rows of q (queries, ldq) in bfloat16, scaled to base 2, to one block; query i sees keys
    // [low[i], high[i]). Set: a query that sees none gets weight 0. Add: as if `merge` added the result to `out`, which
    // starts as `clear_partial` leaves it.
    void (*attend)(const uint16_t* q, int ldq, int queries, const CacheBlockBf16& block, int head_dim, const int* low,
                   const int* high, const PartialAttention& out, Store store);
    // Add `part` to `sum` for one query. A `sum` of weight 0 becomes `part`; a `part` of weight 0 changes nothing.
    void (*merge)(const PartialAttention& sum, const PartialAttention& part, int head_dim);
    // out = values / weight_sum
    void (*normalise)(const PartialAttention& sum, int head_dim, float* out);
    // Roofline: multiply int8 values in registers as fast as this set can. Return the number of products; `sum` keeps
    // the compiler from dropping them.
    int64_t (*int8_products)(int rounds, int32_t& sum);
    // Quantise n values to -127 to 127 with one half-float scale: x is about scale * out.
    void (*to_int8)(const float* x, int n, int8_t* out, uint16_t* scale);
    // `attend` for an int8 block.
    void (*attend_int8)(const uint16_t* q, int ldq, int queries, const CacheBlockInt8& block, int head_dim,
                        const int* low, const int* high, const PartialAttention& out, Store store);
    // out = 2^((x - max) * factor), zero below 2^-100; return their sum. n is a multiple of 16.
    float (*softmax_numerators)(const float* x, int n, float max, float factor, float* out);
    // Of text encoders; n is a multiple of 16. x = layer_norm(x + bias) * weight + shift.
    void (*layer_norm)(float* x, const float* bias, const float* weight, const float* shift, int n, float eps);
    // x = gelu(x + bias), with an error of at most 1e-6.
    void (*gelu)(float* x, const float* bias, int n);
    const TuneOps* tune;     // kernels of the training layers
    bool amx_order = false;  // attention sums in the order of AMX
};

// Prefetch distance in bytes for the weights of a product with one token; the best value differs between processors.
extern const size_t kPrefetchOneToken;

extern const Ops kScalarOps;
// Oracle of tables that attend in the order of AMX; not among the available ones.
extern const Ops kScalarAmxOrderOps;

// Fill `tables` with the tables that this build has and this processor can run, best first; the last is the scalar one.
// Return how many there are.
int available_ops(const Ops** tables, int limit);
// Return the best table, or the one called `name`. Throws Error if the processor cannot run it.
const Ops& choose_ops(std::string_view name);
// Return the name of the scalar table that gives the same bits as `ops`.
const char* oracle_of(const Ops& ops);

}  // namespace empu
