// Weight matrices in the one layout that the kernels read: tiles of 16 rows, columns in groups of 32.
//
// Q4, per tile and group (320 bytes, one stream): four lines of 64 bytes, in which row r owns bytes 4r to 4r+3; the low
// halves of line j hold columns 4j to 4j+3, the high halves columns 16+4j to 16+4j+3; then 16 scales and 16 minima as
// 16-bit floats. A value is scale * number + minimum.
// Q8, per tile: for each group eight lines of 64 bytes, row r at bytes 4r, line j holding columns 4j to 4j+3, each as
// number + 128; after all groups the scales, 16 for each group. A value is scale * number.
// Float32, per tile: for each column 16 floats.
#pragma once

#include <string_view>

#include "common.hpp"

namespace empu {

enum class Kind { Float32, Q4, Q8 };

// Counts up with every change of what stands above or of how `pack_rows` rounds: it is part of the key under which
// packed weights are kept on disk.
inline constexpr int kLayoutVersion = 1;

inline constexpr size_t kQ4GroupBytes = 320;
inline constexpr size_t kQ8GroupBytes = 512;

struct Matrix {
    Kind kind = Kind::Float32;
    int rows = 0;
    int cols = 0;
    int tiles = 0;
    size_t tile_bytes = 0;
    Memory memory;

    int groups() const { return cols / kGroup; }
    const uint8_t* tile(int index) const { return memory.bytes() + tile_bytes * size_t(index); }
};

// Bytes of a matrix, always whole cache lines; throws Error for columns that are not whole groups unless `kind` is
// Float32.
size_t matrix_bytes(Kind kind, int rows, int cols);
// An empty matrix; and one that lies packed in an open file. Throw Error as above, or for a file that is too short.
Matrix make_matrix(Kind kind, int rows, int cols);
Matrix map_matrix(Kind kind, int rows, int cols, int descriptor, size_t offset);

// Fills rows `first` to `first + count - 1` from `bytes` of `type`, row after row:
// Q4 takes Q4_0 and Q4_1 exactly, Q4_K with each product of its two scales rounded to a 16-bit float, and F32 rounded
// to what Q4_1 would hold (an error of at most 1/30 of a group's range);
// Q8 takes Q8_0 exactly, and F32 rounded to numbers of -127 to 127 (an error of at most 1/254 of a group's largest);
// Float32 takes F32. Throws Error for another type, rows outside the matrix or a size that does not fit.
void pack_rows(Matrix& matrix, int first, int count, std::string_view type, const uint8_t* data, size_t bytes);

// One row back as floats: the embedding look-up.
void unpack_row(const Matrix& matrix, int row, float* out);

}  // namespace empu
