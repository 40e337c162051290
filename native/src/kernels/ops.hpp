// The verbs of the engine, as a table that each instruction set fills. Every table gives the same bits, but for AMX in
// attention: each sum has one order, which depends on neither the instruction set, nor how many tokens stand side by
// side, nor the threads.
//
// A product of weights and activations is, for each row and token, over groups in ascending order:
//   Q4:      acc = fma(minimum, sum, acc);  acc = fma(float(dot) * scale_a, scale_w, acc)
//   Q8:      acc = fma(float(dot - 128 * total) * scale_a, scale_w, acc); Q4Symmetric with 8 for 128
//   Float32: acc = fma(weight, x, acc) over columns
// with dot exact in 32-bit integers; for fine rows over the halves of groups, each as a group with the same weights'
// scale. Attention multiplies bfloat16 numbers in pairs, over the elements of a head and then over positions, both
// ascending, the second of a pair first, as VDPBF16PS does:
//   score = fma(key[i + 1], q[i + 1], score);  score = fma(key[i], q[i], score);  values likewise with weights
// or with AMX, for heads of whole 32 elements and a cache in bfloat16, as TDPBF16PS does for each 16 pairs:
//   first = fma(key[i], q[i], first);  second = fma(key[i + 1], q[i + 1], second);  score = score + (first + second)
// A weight is 2^(score - largest) rounded to bfloat16, and so are the weights that are summed up. Of a cache in 8 bits
// the plain numbers are multiplied, a score then by its scale; the weight of a value is weight * scale, rounded again.
// Queries, keys and values lie between 2^-50 and 2^50 or are zero, so that no sum leaves float32's normal range.
// Other sums run in 16 lanes, lane i taking elements i, i + 16, ...; the lanes are then added in halves: i with i + 8,
// i + 4, i + 2, i + 1.
#pragma once

#include "model/matrix.hpp"
#include "kernels/tune_ops.hpp"

namespace empu {

inline constexpr int kTiledFloats = 2 * kLanes;

// Activations of some tokens. Row t of `floats` has `stride` elements, those past `cols` are padding. The quantised
// form has for each group of 32 the 8-bit numbers, their scale, the plain sum of the numbers, and that sum times the
// scale. Fine rows have scale, sum and that sum times the scale for each half of a group, one after the other.
struct Rows {
    int cols = 0;
    int stride = 0;
    float* floats = nullptr;
    int8_t* numbers = nullptr;
    float* scales = nullptr;
    float* sums = nullptr;
    int32_t* totals = nullptr;
    bool fine = false;
    // Besides, where it is not null, the scales and sums of each 16 tokens side by side: (tokens / 16 rounded up, groups
    // or halves, 2, 16).
    float* tiled = nullptr;

    int groups() const { return cols / kGroup; }
    int spans() const { return fine ? 2 * groups() : groups(); }
};

// The rows from `first` on; they have no `tiled`, whose blocks begin at every 16th token.
Rows beginning_at(const Rows& rows, int first);

enum class Span { Group, First, Second };  // a group of columns, or one half of it
enum class Store { Set, Add };

// Weight tiles [begin, end) of a matrix; out is (tokens, ld), the tile of rows i at columns 16 * i.
struct Tiles {
    const Matrix* matrix;
    int begin;
    int end;
};

// One block of the cache for one key/value head, as bfloat16, in pairs: keys (head_dim / 2, 64, 2), values
// (32, padded head_dim, 2), where a pair holds the same element of two neighbouring positions.
struct CacheBlock {
    const uint16_t* keys;
    const uint16_t* values;
};

// The same in 8 bits: numbers of -127 to 127, and for each of the 64 positions a scale of its key and one of its value,
// which are 16-bit floats of the other kind.
struct SmallBlock {
    const int8_t* keys;
    const int8_t* values;
    const uint16_t* key_scales;
    const uint16_t* value_scales;
};

inline constexpr float kNothing = -3.0e38f;  // below every score

// What attention to some positions gave for one query: the largest score (base 2), the sum of the weights relative to
// it, and the weighted values.
struct Partial {
    float* largest;  // (queries,)
    float* weight;   // (queries,)
    float* values;   // (queries, padded head_dim)
};

inline void nothing_seen(const Partial& partial, int queries, int width) {
    for (int i = 0; i < queries; ++i) partial.largest[i] = kNothing, partial.weight[i] = 0;
    for (size_t i = 0; i < size_t(queries) * size_t(width); ++i) partial.values[i] = 0;
}

struct Ops {
    const char* name;
    // out = x / rms(x) * weight; x, weight and out have round_up(n, 16) elements, those past n zero.
    void (*rms_norm)(const float* x, const float* weight, int n, float eps, float* out);
    // Fills numbers, scales, sums and totals of row `token` for groups [begin, end) from `x`, which starts at `begin`.
    void (*quantise)(const float* x, const Rows& rows, int token, int begin, int end);
    void (*multiply)(const Tiles& tiles, const Rows& rows, int tokens, float* out, size_t ld, Store store);
    // out = silu(gate x) * (up x); both matrices of one kind and shape, the rows not fine.
    void (*multiply_gated)(const Tiles& gate, const Matrix& up, const Rows& rows, int tokens, float* out, size_t ld);
    // gate = silu(gate) * up, n a multiple of 16.
    void (*gate)(float* gate, const float* up, int n);
    // Turns pairs (x0, x1), (x2, x3), ... by their angles and multiplies by `factor`.
    void (*rotate)(const float* x, const float* cosines, const float* sines, int pairs, float factor, float* out);
    // bfloat16, for attention: to nearest, ties to even, zero below 2^-50 and at most 2^50.
    void (*to_bfloat)(const float* x, int n, uint16_t* out);
    // Attention of `queries` rows of q (queries, ldq) in bfloat16, scaled to base 2, to one block; query i sees keys
    // [low[i], high[i]). Set: a query that sees none gets weight 0. Add: as if `merge` had added the result to what
    // `out` holds, which begins as `nothing_seen`.
    void (*attend)(const uint16_t* q, int ldq, int queries, const CacheBlock& block, int head_dim, const int* low,
                   const int* high, const Partial& out, Store store);
    // Adds `part` to `sum` for one query; a `sum` of weight 0 becomes `part`, and a `part` of weight 0 changes nothing.
    void (*merge)(const Partial& sum, const Partial& part, int head_dim);
    // out = values / weight
    void (*finish)(const Partial& sum, int head_dim, float* out);
    // Products of 8-bit numbers as fast as this set can do them, out of registers; gives how many, and a sum to keep.
    int64_t (*products)(int rounds, int32_t& sum);
    // n numbers of -127 to 127 and their scale, a 16-bit float: x is about number * scale.
    void (*to_small)(const float* x, int n, int8_t* out, uint16_t* scale);
    // `attend` for a block in 8 bits.
    void (*attend_small)(const uint16_t* q, int ldq, int queries, const SmallBlock& block, int head_dim, const int* low,
                         const int* high, const Partial& out, Store store);
    // out = 2^((x - largest) * factor), nothing below 2^-100; gives their sum. n is a multiple of 16.
    float (*powers)(const float* x, int n, float largest, float factor, float* out);
    const TuneOps* tuning;  // what tuning uses besides
    bool paired = false;    // attends in the order of AMX
};

// How many bytes ahead of their use the weights are fetched for one token: what is fastest differs between processors.
extern const size_t kAheadForOne;

extern const Ops kScalarOps;
// The oracle for tables that attend in the order of AMX; it is not among the available ones.
extern const Ops kScalarPairedOps;

// The tables that this build has and this processor can run, best first; the last is always the scalar one.
int available_ops(const Ops** tables, int limit);
// The best table, or the one called `name`; throws Error where that cannot run here.
const Ops& choose_ops(std::string_view name);
// The name of the scalar table whose bits the table gives.
const char* oracle_of(const Ops& ops);

}  // namespace empu
