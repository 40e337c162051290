// The tile registers of AMX.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace empu {
namespace {

struct alignas(64) TileSetup {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};

    void shape(int tile, int height, int bytes) {
        rows[tile] = (uint8_t)height;
        row_bytes[tile] = (uint16_t)bytes;
    }
};

// What was written to memory is there for what loads tile registers, which does not say that it reads.
inline void tiles_read_memory() { asm volatile("" : : : "memory"); }

// Tile registers are in use from here to the end of the block.
class TilesInUse {
  public:
    explicit TilesInUse(const TileSetup& setup) {
        tiles_read_memory();
        _tile_loadconfig(&setup);
    }
    ~TilesInUse() { _tile_release(); }
    TilesInUse(const TilesInUse&) = delete;
    TilesInUse& operator=(const TilesInUse&) = delete;
};

}  // namespace
}  // namespace empu
