// Weight matrices in the one layout that the kernels read: tiles of 16 rows, columns in groups of 32.
//
// Q4, per tile and group (320 bytes, one stream): four lines of 64 bytes, in which row r owns bytes 4r to 4r+3; the low
// halves of line j hold columns 4j to 4j+3, the high halves columns 16+4j to 16+4j+3; then 16 scales and 16 minima as
// 16-bit floats. A value is scale * number + minimum.
// Q4Symmetric, the same without minima, in pairs of groups (576 bytes, one stream): the lines of both, then the scales
// of both; a last group without a partner has its scales and 32 unused bytes after its lines. A value is scale *
// (number - 8). Q8, in pairs likewise (1,088 bytes): for each group eight lines, row r at bytes 4r, line j holding
// columns 4j to 4j+3, each as number + 128. A value is scale * number. Float32, per tile: for each column 16 floats.
#pragma once

#include <string_view>

#include "common.hpp"

namespace empu {

enum class Kind { Float32, Q4, Q4Symmetric, Q8 };

// Counts up with every change of what stands above or of how `pack_rows` rounds or what it refuses: it is part of the key under which
// packed weights are kept on disk.
inline constexpr int kLayoutVersion = 3;

inline constexpr size_t kQ4GroupBytes = 320;

// Kinds in pairs of groups: what one group takes without its scales, and where numbers and scales of a group begin in
// its tile.
inline constexpr size_t kQ4Numbers = 256, kQ8Numbers = 512, kScales = 32;
inline constexpr size_t pair_bytes(size_t numbers) { return 2 * (numbers + kScales); }
inline constexpr size_t numbers_at(size_t numbers, int group) {
    return size_t(group / 2) * pair_bytes(numbers) + size_t(group % 2) * numbers;
}
inline constexpr size_t scales_at(size_t numbers, int groups, int group) {
    const bool alone = group + 1 == groups && group % 2 == 0;
    return size_t(group / 2) * pair_bytes(numbers) + (alone ? numbers : 2 * numbers + size_t(group % 2) * kScales);
}

// Where a group of a quantised kind lies in its tile: its numbers, and its scales, which minima follow.
struct Place {
    size_t numbers, scales;
};
inline constexpr Place place_of(Kind kind, int groups, int group) {
    if (kind == Kind::Q4) return {kQ4GroupBytes * size_t(group), kQ4GroupBytes * size_t(group) + kQ4Numbers};
    const size_t numbers = kind == Kind::Q8 ? kQ8Numbers : kQ4Numbers;
    return {numbers_at(numbers, group), scales_at(numbers, groups, group)};
}

struct Matrix {
    Kind kind = Kind::Float32;
    int rows = 0;
    int cols = 0;
    int tiles = 0;
    size_t tile_bytes = 0;
    Memory memory;

    int groups() const { return cols / kGroup; }
    size_t bytes() const { return tile_bytes * size_t(tiles); }
    const uint8_t* tile(int index) const { return memory.bytes() + tile_bytes * size_t(index); }
};

// Bytes of a matrix, always whole cache lines; throws Error for columns that are not whole groups unless `kind` is
// Float32.
size_t matrix_bytes(Kind kind, int rows, int cols);
// A matrix in memory of its own, in `room`, and one that lies packed in `memory` from `offset` on. Throw Error as
// above, or for a memory that is too short.
Matrix make_matrix(Kind kind, int rows, int cols);
Matrix make_matrix(Kind kind, int rows, int cols, Room& room);
Matrix map_matrix(Kind kind, int rows, int cols, const Memory& memory, size_t offset);

// Fills rows `first` to `first + count - 1` from `bytes` of `type`, row after row:
// Q4 takes Q4_1 exactly, Q4_K with each product of its two scales rounded to a 16-bit float, and F32 rounded to what
// Q4_1 would hold (an error of at most 1/30 of a group's range); Q4Symmetric takes Q4_0 exactly;
// Q8 takes Q8_0 exactly, and F32 rounded to numbers of -127 to 127 (an error of at most 1/254 of a group's largest);
// Float32 takes F32. Throws Error for another type, rows outside the matrix or a size that does not fit, NotFinite for a
// scale or minimum of a block that is not.
void pack_rows(Matrix& matrix, int first, int count, std::string_view type, const uint8_t* data, size_t bytes);

// One row back as floats: the embedding look-up.
void unpack_row(const Matrix& matrix, int row, float* out);

}  // namespace empu
