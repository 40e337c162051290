// Layout of packed weight matrices, which the kernels read: tiles of 16 rows, columns in groups of 32.
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

#include <cstddef>
#include <cstdint>

namespace empu {

inline constexpr int kLanes = 16;      // rows of a weight tile; elements of one SIMD step
inline constexpr int kGroupSize = 32;  // neighbouring columns that share a scale

inline constexpr int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

enum class WeightFormat { Float32, Q4, Q4Symmetric, Q8 };

// Part of the key of packed weights in the cache on disk. Increase it when the layout above changes, or how `pack_rows`
// of model/matrix.hpp rounds, or what it rejects.
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

// A packed matrix, without its memory.
struct PackedMatrix {
    WeightFormat format = WeightFormat::Float32;
    int rows = 0;
    int cols = 0;
    int tiles = 0;
    size_t tile_bytes = 0;
    const uint8_t* data = nullptr;

    int groups() const { return cols / kGroupSize; }
    size_t bytes() const { return tile_bytes * size_t(tiles); }
    const uint8_t* tile(int index) const { return data + tile_bytes * size_t(index); }
};

}  // namespace empu
