// Weight matrices in the packed layout that the kernels read: tiles of 16 rows, columns in groups of 32.
//
// Q4, per tile and group (320 bytes, one stream): four lines of 64 bytes, in which row r owns bytes 4r to 4r+3. The low
// nibbles of line j hold columns 4j to 4j+3, the high nibbles columns 16+4j to 16+4j+3. Then 16 scales and 16 minima as
// half floats. A weight is scale * value + minimum.
//
// Q4Symmetric, the same without minima, in pairs of groups (576 bytes, one stream): the lines of both groups, then the
// scales of both. A last group without a partner has its scales and 32 unused bytes after its lines. A weight is
// scale * (value - 8).
//
// Q8, also in pairs of groups (1,088 bytes): for each group eight lines, row r at bytes 4r to 4r+3, line j holding
// columns 4j to 4j+3, each stored as value + 128. A weight is scale * value.
//
// Float32, per tile: 16 floats for each column.
#pragma once

#include <string_view>

#include "common.hpp"

namespace empu {

enum class WeightFormat { Float32, Q4, Q4Symmetric, Q8 };

// Part of the key of packed weights in the cache on disk. Increase it when the layout above changes, or how `pack_rows`
// rounds, or what it rejects.
inline constexpr int kLayoutVersion = 3;

inline constexpr size_t kQ4GroupBytes = 320;

// Formats in pairs of groups: the bytes of one group's values, and the offsets of a group's values and scales in its
// tile.
inline constexpr size_t kQ4ValueBytes = 256, kQ8ValueBytes = 512, kScaleBytes = 32;
inline constexpr size_t pair_bytes(size_t value_bytes) { return 2 * (value_bytes + kScaleBytes); }
inline constexpr size_t values_offset(size_t value_bytes, int group) {
    return size_t(group / 2) * pair_bytes(value_bytes) + size_t(group % 2) * value_bytes;
}
inline constexpr size_t scales_offset(size_t value_bytes, int groups, int group) {
    const bool is_single = group + 1 == groups && group % 2 == 0;
    return size_t(group / 2) * pair_bytes(value_bytes) +
           (is_single ? value_bytes : 2 * value_bytes + size_t(group % 2) * kScaleBytes);
}

// Offsets of a group's values and scales in its tile, for any quantised format. Minima follow the scales.
struct GroupOffset {
    size_t values, scales;
};
inline constexpr GroupOffset group_offset(WeightFormat format, int groups, int group) {
    if (format == WeightFormat::Q4) {
        return {kQ4GroupBytes * size_t(group), kQ4GroupBytes * size_t(group) + kQ4ValueBytes};
    }
    const size_t value_bytes = format == WeightFormat::Q8 ? kQ8ValueBytes : kQ4ValueBytes;
    return {values_offset(value_bytes, group), scales_offset(value_bytes, groups, group)};
}

struct Matrix {
    WeightFormat format = WeightFormat::Float32;
    int rows = 0;
    int cols = 0;
    int tiles = 0;
    size_t tile_bytes = 0;
    Memory memory;

    int groups() const { return cols / kGroupSize; }
    size_t bytes() const { return tile_bytes * size_t(tiles); }
    const uint8_t* tile(int index) const { return memory.bytes() + tile_bytes * size_t(index); }
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
