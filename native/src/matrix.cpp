#include "matrix.hpp"

#include <cmath>

#include "half.hpp"

namespace empu {

namespace {

uint16_t read_half(const uint8_t* at) {
    uint16_t half;
    std::memcpy(&half, at, sizeof half);
    return half;
}

void write_half(uint8_t* at, uint16_t half) { std::memcpy(at, &half, sizeof half); }

// One group of one row on its way into a Q4 tile.
struct Q4Group {
    uint8_t numbers[kGroup];
    uint16_t scale;
    uint16_t minimum;
};

void place_q4(Matrix& matrix, int row, int group, const Q4Group& source) {
    uint8_t* target = matrix.memory.bytes() + matrix.tile_bytes * size_t(row / kLanes) + kQ4GroupBytes * size_t(group);
    const int lane = row % kLanes;
    for (int byte = 0; byte < kLanes; ++byte) {
        target[byte / 4 * 64 + lane * 4 + byte % 4] = uint8_t(source.numbers[byte] | source.numbers[byte + 16] << 4);
    }
    write_half(target + 256 + 2 * lane, source.scale);
    write_half(target + 288 + 2 * lane, source.minimum);
}

void place_q8(Matrix& matrix, int row, int group, const int8_t* numbers, uint16_t scale) {
    uint8_t* tile = matrix.memory.bytes() + matrix.tile_bytes * size_t(row / kLanes);
    const int lane = row % kLanes;
    uint8_t* target = tile + kQ8GroupBytes * size_t(group);
    for (int column = 0; column < kGroup; ++column) {
        target[column / 4 * 64 + lane * 4 + column % 4] = uint8_t(numbers[column] + 128);
    }
    write_half(tile + kQ8GroupBytes * size_t(matrix.groups()) + 32 * size_t(group) + 2 * lane, scale);
}

void low_and_high(const uint8_t* packed, int count, uint8_t* low, uint8_t* high) {
    for (int i = 0; i < count; ++i) {
        low[i] = packed[i] & 15;
        high[i] = packed[i] >> 4;
    }
}

void pack_q4_0(Matrix& matrix, int row, const uint8_t* block) {
    for (int group = 0; group < matrix.groups(); ++group, block += 18) {
        Q4Group out;
        out.scale = read_half(block);
        out.minimum = half_of_float(-8.0f * float_of_half(out.scale));
        low_and_high(block + 2, 16, out.numbers, out.numbers + 16);
        place_q4(matrix, row, group, out);
    }
}

void pack_q4_1(Matrix& matrix, int row, const uint8_t* block) {
    for (int group = 0; group < matrix.groups(); ++group, block += 20) {
        Q4Group out;
        out.scale = read_half(block);
        out.minimum = read_half(block + 2);
        low_and_high(block + 4, 16, out.numbers, out.numbers + 16);
        place_q4(matrix, row, group, out);
    }
}

// Eight groups share two floats; each group has a six-bit scale and a six-bit minimum (layout of ggml's block_q4_K).
void pack_q4_k(Matrix& matrix, int row, const uint8_t* block) {
    for (int first = 0; first < matrix.groups(); first += 8, block += 144) {
        const float scale = float_of_half(read_half(block)), minimum = float_of_half(read_half(block + 2));
        const uint8_t* six = block + 4;
        for (int i = 0; i < 8; ++i) {
            const int s = i < 4 ? six[i] & 63 : (six[i + 4] & 15) | (six[i - 4] >> 6 << 4);
            const int m = i < 4 ? six[i + 4] & 63 : (six[i + 4] >> 4) | (six[i] >> 6 << 4);
            const uint8_t* packed = block + 16 + i / 2 * 32;
            Q4Group out;
            for (int column = 0; column < kGroup; ++column) {
                out.numbers[column] = i % 2 ? packed[column] >> 4 : packed[column] & 15;
            }
            out.scale = half_of_float(scale * float(s));
            out.minimum = half_of_float(-minimum * float(m));
            place_q4(matrix, row, first + i, out);
        }
    }
}

void pack_q8_0(Matrix& matrix, int row, const uint8_t* block) {
    for (int group = 0; group < matrix.groups(); ++group, block += 34) {
        place_q8(matrix, row, group, reinterpret_cast<const int8_t*>(block + 2), read_half(block));
    }
}

void round_to_q8(Matrix& matrix, int row, const uint8_t* data) {
    for (int group = 0; group < matrix.groups(); ++group, data += 4 * kGroup) {
        float values[kGroup], largest = 0;
        std::memcpy(values, data, sizeof values);
        for (float value : values) largest = std::fmax(largest, std::fabs(value));
        const uint16_t scale = half_of_float(largest / 127.0f);
        const float stored = float_of_half(scale);
        int8_t numbers[kGroup];
        for (int i = 0; i < kGroup; ++i) {
            const float number = stored > 0 ? std::nearbyint(values[i] / stored) : 0.0f;
            numbers[i] = int8_t(std::fmin(std::fmax(number, -127.0f), 127.0f));
        }
        place_q8(matrix, row, group, numbers, scale);
    }
}

void place_floats(Matrix& matrix, int row, const uint8_t* data) {
    float* tile = matrix.memory.as<float>() + size_t(row / kLanes) * size_t(matrix.cols) * kLanes;
    for (int column = 0; column < matrix.cols; ++column) {
        std::memcpy(tile + size_t(column) * kLanes + row % kLanes, data + 4 * size_t(column), sizeof(float));
    }
}

struct Packer {
    std::string_view type;
    Kind kind;
    int block_values;
    size_t block_bytes;
    void (*pack_row)(Matrix&, int row, const uint8_t* data);
};

constexpr Packer kPackers[] = {
    {"Q4_0", Kind::Q4, 32, 18, pack_q4_0},   {"Q4_1", Kind::Q4, 32, 20, pack_q4_1},
    {"Q4_K", Kind::Q4, 256, 144, pack_q4_k}, {"Q8_0", Kind::Q8, 32, 34, pack_q8_0},
    {"F32", Kind::Q8, 32, 128, round_to_q8}, {"F32", Kind::Float32, 1, 4, place_floats},
};

}  // namespace

Matrix make_matrix(Kind kind, int rows, int cols) {
    if (rows < 1 || cols < 1) throw Error("A matrix needs at least one row and one column.");
    if (kind != Kind::Float32 && cols % kGroup != 0) {
        throw Error("A quantised matrix has " + std::to_string(cols) + " columns; a multiple of 32 was expected.");
    }
    Matrix matrix;
    matrix.kind = kind;
    matrix.rows = rows;
    matrix.cols = cols;
    matrix.tiles = (rows + kLanes - 1) / kLanes;
    const size_t groups = size_t(cols / kGroup);
    if (kind == Kind::Float32) matrix.tile_bytes = size_t(cols) * kLanes * sizeof(float);
    if (kind == Kind::Q4) matrix.tile_bytes = groups * kQ4GroupBytes;
    if (kind == Kind::Q8) matrix.tile_bytes = (groups * (kQ8GroupBytes + 32) + 63) / 64 * 64;
    matrix.memory = Memory(matrix.tile_bytes * size_t(matrix.tiles));
    return matrix;
}

void pack_rows(Matrix& matrix, int first, int count, std::string_view type, const uint8_t* data, size_t bytes) {
    for (const Packer& packer : kPackers) {
        if (packer.type != type || packer.kind != matrix.kind) continue;
        const size_t row_bytes = size_t(matrix.cols / packer.block_values) * packer.block_bytes;
        if (first < 0 || count < 1 || count > matrix.rows - first || matrix.cols % packer.block_values != 0 ||
            bytes != row_bytes * size_t(count)) {
            throw Error("The bytes of a " + std::string(type) + " matrix do not fit its shape.");
        }
        for (int i = 0; i < count; ++i) packer.pack_row(matrix, first + i, data + row_bytes * size_t(i));
        return;
    }
    throw Error("Tensors of type " + std::string(type) + " cannot be packed into this kind of matrix.");
}

void unpack_row(const Matrix& matrix, int row, float* out) {
    const uint8_t* tile = matrix.tile(row / kLanes);
    const int lane = row % kLanes;
    if (matrix.kind == Kind::Float32) {
        for (int column = 0; column < matrix.cols; ++column) {
            std::memcpy(out + column, tile + (size_t(column) * kLanes + size_t(lane)) * 4, sizeof(float));
        }
        return;
    }
    for (int group = 0; group < matrix.groups(); ++group, out += kGroup) {
        if (matrix.kind == Kind::Q4) {
            const uint8_t* source = tile + kQ4GroupBytes * size_t(group);
            const float scale = float_of_half(read_half(source + 256 + 2 * lane));
            const float minimum = float_of_half(read_half(source + 288 + 2 * lane));
            for (int byte = 0; byte < 16; ++byte) {
                const uint8_t both = source[byte / 4 * 64 + lane * 4 + byte % 4];
                out[byte] = scale * float(both & 15) + minimum;
                out[byte + 16] = scale * float(both >> 4) + minimum;
            }
        } else {
            const uint8_t* source = tile + kQ8GroupBytes * size_t(group);
            const uint8_t* scales = tile + kQ8GroupBytes * size_t(matrix.groups()) + 32 * size_t(group);
            const float scale = float_of_half(read_half(scales + 2 * lane));
            for (int column = 0; column < kGroup; ++column) {
                out[column] = scale * float(int(source[column / 4 * 64 + lane * 4 + column % 4]) - 128);
            }
        }
    }
}

}  // namespace empu
