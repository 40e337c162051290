// Configuration of the AMX tile registers.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace empu {
namespace {

struct alignas(64) TileConfig {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};

    void set_tile(int tile, int num_rows, int bytes) {
        rows[tile] = (uint8_t)num_rows;
        row_bytes[tile] = (uint16_t)bytes;
    }
};

// Compiler barrier: the intrinsics that load tile registers do not declare that they read memory.
inline void memory_barrier() { asm volatile("" : : : "memory"); }

// Configures the tile registers, and releases them at the end of the scope.
class TileConfigScope {
  public:
    explicit TileConfigScope(const TileConfig& config) {
        memory_barrier();
        _tile_loadconfig(&config);
    }
    ~TileConfigScope() { _tile_release(); }
    TileConfigScope(const TileConfigScope&) = delete;
    TileConfigScope& operator=(const TileConfigScope&) = delete;
};

}  // namespace
}  // namespace empu
