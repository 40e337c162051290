// Weight matrices in memory, in the packed layout of kernels/layout.hpp.
#pragma once

#include <string_view>

#include "kernels/layout.hpp"
#include "model/memory.hpp"

namespace empu {

// A packed matrix and its memory, which `data` points to.
struct Matrix : PackedMatrix {
    Memory memory;
};

// Return the bytes of a matrix, a multiple of the cache line. Throws Error if `cols` is not a multiple of the group
// size, except for Float32.
size_t matrix_bytes(WeightFormat format, int rows, int cols);
// Return a matrix in its own memory, or in `arena`. Throws Error as above.
Matrix make_matrix(WeightFormat format, int rows, int cols);
Matrix make_matrix(WeightFormat format, int rows, int cols, Arena& arena);
// Return a matrix that is already packed in `memory` at `offset`. Throws Error also if `memory` is too short.
Matrix map_matrix(WeightFormat format, int rows, int cols, const Memory& memory, size_t offset);

// Pack rows `first` to `first + count - 1` from `data` of GGML type `type`, row by row:
//   Q4 takes Q4_1 exactly, Q4_K with each product of its two scales rounded to a half float, and F32 rounded to what
//   Q4_1 would hold (an error of at most 1/30 of a group's range). Q4Symmetric takes Q4_0 exactly. Q8 takes Q8_0
//   exactly, and F32 rounded to -127 to 127 (an error of at most 1/254 of a group's largest magnitude). Float32 takes
//   F32.
// Throws Error for another type, rows outside the matrix or a wrong size; NotFinite for a scale or minimum that is not
// finite.
void pack_rows(Matrix& matrix, int first, int count, std::string_view type, const uint8_t* data, size_t bytes);

// Dequantise one row to floats, for the embedding lookup.
void unpack_row(const Matrix& matrix, int row, float* out);

}  // namespace empu
