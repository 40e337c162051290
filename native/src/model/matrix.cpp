// Packing of weights into tiles.
#include "model/matrix.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "error.hpp"
#include "kernels/float16.hpp"

namespace empu {

namespace {

uint16_t read_half(const uint8_t* from) {
    uint16_t half;
    std::memcpy(&half, from, sizeof half);
    return half;
}

// Read a scale or a minimum of a block in a file.
uint16_t read_finite(const uint8_t* from) {
    const uint16_t half = read_half(from);
    if ((half & 0x7c00) == 0x7c00) throw NotFiniteError("A scale or minimum is not finite.");
    return half;
}

void write_half(uint8_t* to, uint16_t half) { std::memcpy(to, &half, sizeof half); }

// Read four neighbouring values of one row, which stay neighbours in a tile.
uint32_t read_4_bytes(const uint8_t* from) {
    uint32_t bytes;
    std::memcpy(&bytes, from, sizeof bytes);
    return bytes;
}

// Write the scale of one row's group and its bytes in `lines` lines; `line_bytes(i)` returns the four bytes of line i.
// Return the address of the scale.
template <typename LineBytes>
uint8_t* write_group(Matrix& matrix, int row, int group, int lines, uint16_t scale, const LineBytes& line_bytes) {
    uint8_t* tile = matrix.memory.bytes() + matrix.tile_bytes * size_t(row / kLanes);
    const GroupOffset offset = group_offset(matrix.format, matrix.groups(), group);
    const int lane = row % kLanes;
    for (int line = 0; line < lines; ++line) {
        const uint32_t bytes = line_bytes(line);
        std::memcpy(tile + offset.values + 64 * line + 4 * lane, &bytes, sizeof bytes);
    }
    write_half(tile + offset.scales + 2 * lane, scale);
    return tile + offset.scales + 2 * lane;
}

// `line_bytes(i)` returns columns 4i to 4i+3 in the low nibbles and columns 16+4i to 16+4i+3 in the high nibbles.
template <typename LineBytes>
void write_q4_group(Matrix& matrix, int row, int group, uint16_t scale, uint16_t minimum, const LineBytes& line_bytes) {
    write_half(write_group(matrix, row, group, 4, scale, line_bytes) + kScaleBytes, minimum);
}

void write_q8_group(Matrix& matrix, int row, int group, const uint8_t* values, uint16_t scale) {
    write_group(matrix, row, group, 8, scale,
                [&](int i) { return read_4_bytes(values + 4 * i) ^ 0x80808080u; });  // add 128
}

void pack_q4_0(Matrix& matrix, int row, const uint8_t* block) {
    for (int group = 0; group < matrix.groups(); ++group, block += 18) {
        write_group(matrix, row, group, 4, read_finite(block), [&](int i) { return read_4_bytes(block + 2 + 4 * i); });
    }
}

void pack_q4_1(Matrix& matrix, int row, const uint8_t* block) {
    for (int group = 0; group < matrix.groups(); ++group, block += 20) {
        write_q4_group(matrix, row, group, read_finite(block), read_finite(block + 2),
                       [&](int i) { return read_4_bytes(block + 4 + 4 * i); });
    }
}

// Eight groups share two floats; each group has a six-bit scale and a six-bit minimum (layout of ggml's block_q4_K).
// Two groups share 32 bytes: the first has the low nibbles, the second the high nibbles.
void pack_q4_k(Matrix& matrix, int row, const uint8_t* block) {
    for (int first = 0; first < matrix.groups(); first += 8, block += 144) {
        const float scale = half_to_float(read_finite(block)), minimum = half_to_float(read_finite(block + 2));
        const uint8_t* six_bits = block + 4;
        for (int i = 0; i < 8; ++i) {
            const int s = i < 4 ? six_bits[i] & 63 : (six_bits[i + 4] & 15) | (six_bits[i - 4] >> 6 << 4);
            const int m = i < 4 ? six_bits[i + 4] & 63 : (six_bits[i + 4] >> 4) | (six_bits[i] >> 6 << 4);
            const uint8_t* packed = block + 16 + i / 2 * 32;
            const auto nibbles = [&](int offset) { return read_4_bytes(packed + offset) >> (i % 2 * 4) & 0x0f0f0f0fu; };
            write_q4_group(matrix, row, first + i, float_to_half(scale * float(s)), float_to_half(-minimum * float(m)),
                           [&](int line) { return nibbles(4 * line) | nibbles(16 + 4 * line) << 4; });
        }
    }
}

void pack_q8_0(Matrix& matrix, int row, const uint8_t* block) {
    for (int group = 0; group < matrix.groups(); ++group, block += 34) {
        write_q8_group(matrix, row, group, block + 2, read_finite(block));
    }
}

// Unlike std::fmax, these are false for NaN and the compiler vectorises them.
float larger(float a, float b) { return a > b ? a : b; }
float smaller(float a, float b) { return a < b ? a : b; }

void quantise_to_q8(Matrix& matrix, int row, const uint8_t* data) {
    for (int group = 0; group < matrix.groups(); ++group, data += 4 * kGroupSize) {
        float weights[kGroupSize], max_magnitude = 0;
        std::memcpy(weights, data, sizeof weights);
        for (const float weight : weights) max_magnitude = larger(std::fabs(weight), max_magnitude);
        const uint16_t scale = float_to_half(max_magnitude / 127.0f);
        const float stored = half_to_float(scale);
        uint8_t values[kGroupSize] = {};
        for (int i = 0; stored > 0 && i < kGroupSize; ++i) {
            const float value = smaller(larger(weights[i] / stored, -127.0f), 127.0f);
            values[i] = uint8_t(float_to_bits(value + 12582912.0f));  // 1.5 * 2^23: rounded, in the lowest bits
        }
        write_q8_group(matrix, row, group, values, scale);
    }
}

// Quantise to 16 steps from the smallest to the largest weight of a group, as Q4_1 does: values come from the exact
// scale and minimum, which are then stored as half floats.
void quantise_to_q4(Matrix& matrix, int row, const uint8_t* data) {
    for (int group = 0; group < matrix.groups(); ++group, data += kGroupSize * sizeof(float)) {
        float weights[kGroupSize];
        std::memcpy(weights, data, sizeof weights);
        float min = std::numeric_limits<float>::max(), max = -min;
        for (const float weight : weights) {
            min = smaller(weight, min);
            max = larger(weight, max);
        }
        const float scale = (max - min) / 15.0f;
        const float inverse = scale >= 0x1p-126f ? 1.0f / scale : 0.0f;
        uint8_t values[kGroupSize];
        for (int i = 0; i < kGroupSize; ++i) {
            const float value = smaller(larger((weights[i] - min) * inverse + 0.5f, 0.0f), 15.0f);
            values[i] = uint8_t(int32_t(value));
        }
        uint32_t lines[4];
        for (int i = 0; i < 4; ++i) lines[i] = read_4_bytes(values + 4 * i) | read_4_bytes(values + 16 + 4 * i) << 4;
        write_q4_group(matrix, row, group, float_to_half(scale), float_to_half(min), [&](int i) { return lines[i]; });
    }
}

void pack_f32(Matrix& matrix, int row, const uint8_t* data) {
    float* tile = matrix.memory.as<float>() + size_t(row / kLanes) * size_t(matrix.cols) * kLanes;
    for (int column = 0; column < matrix.cols; ++column) {
        std::memcpy(tile + size_t(column) * kLanes + row % kLanes, data + 4 * size_t(column), sizeof(float));
    }
}

struct Packer {
    std::string_view type;
    WeightFormat format;
    int block_values;
    size_t block_bytes;
    void (*pack_row)(Matrix&, int row, const uint8_t* data);
};

constexpr Packer kPackers[] = {
    {"Q4_0", WeightFormat::Q4Symmetric, 32, 18, pack_q4_0}, {"Q4_1", WeightFormat::Q4, 32, 20, pack_q4_1},
    {"Q4_K", WeightFormat::Q4, 256, 144, pack_q4_k},        {"Q8_0", WeightFormat::Q8, 32, 34, pack_q8_0},
    {"F32", WeightFormat::Q4, 32, 128, quantise_to_q4},     {"F32", WeightFormat::Q8, 32, 128, quantise_to_q8},
    {"F32", WeightFormat::Float32, 1, 4, pack_f32},
};

Matrix empty_matrix(WeightFormat format, int rows, int cols) {
    if (rows < 1 || cols < 1) throw Error("A matrix needs at least one row and one column.");
    if (format != WeightFormat::Float32 && cols % kGroupSize != 0) {
        throw Error("A quantised matrix has " + std::to_string(cols) + " columns; a multiple of 32 was expected.");
    }
    Matrix matrix;
    matrix.format = format;
    matrix.rows = rows;
    matrix.cols = cols;
    matrix.tiles = (rows + kLanes - 1) / kLanes;
    const int groups = cols / kGroupSize;
    const auto paired = [&](size_t value_bytes) {
        return values_offset(value_bytes, groups) + size_t(groups % 2) * 64;
    };
    if (format == WeightFormat::Float32) matrix.tile_bytes = size_t(cols) * kLanes * sizeof(float);
    if (format == WeightFormat::Q4) matrix.tile_bytes = size_t(groups) * kQ4GroupBytes;
    if (format == WeightFormat::Q4Symmetric) matrix.tile_bytes = paired(kQ4ValueBytes);
    if (format == WeightFormat::Q8) matrix.tile_bytes = paired(kQ8ValueBytes);
    return matrix;
}

}  // namespace

size_t matrix_bytes(WeightFormat format, int rows, int cols) { return empty_matrix(format, rows, cols).bytes(); }

Matrix make_matrix(WeightFormat format, int rows, int cols) {
    Matrix matrix = empty_matrix(format, rows, cols);
    matrix.memory = Memory(matrix.bytes());
    matrix.data = matrix.memory.bytes();
    return matrix;
}

Matrix make_matrix(WeightFormat format, int rows, int cols, Arena& arena) {
    Matrix matrix = empty_matrix(format, rows, cols);
    matrix.memory = arena.allocate(matrix.bytes());
    matrix.data = matrix.memory.bytes();
    return matrix;
}

Matrix map_matrix(WeightFormat format, int rows, int cols, const Memory& memory, size_t offset) {
    Matrix matrix = empty_matrix(format, rows, cols);
    matrix.memory = memory.slice(offset, matrix.bytes());
    matrix.data = matrix.memory.bytes();
    return matrix;
}

void pack_rows(Matrix& matrix, int first, int count, std::string_view type, const uint8_t* data, size_t bytes) {
    if (!matrix.memory.is_writable()) throw Error("Weights in a mapped file cannot be changed.");
    for (const Packer& packer : kPackers) {
        if (packer.type != type || packer.format != matrix.format) continue;
        const size_t row_bytes = size_t(matrix.cols / packer.block_values) * packer.block_bytes;
        if (first < 0 || count < 1 || count > matrix.rows - first || matrix.cols % packer.block_values != 0 ||
            bytes != row_bytes * size_t(count)) {
            throw Error("The data of type " + std::string(type) +
                        " has the wrong size for the matrix, or the rows are outside it.");
        }
        for (int i = 0; i < count; ++i) packer.pack_row(matrix, first + i, data + row_bytes * size_t(i));
        return;
    }
    throw Error("Tensors of type " + std::string(type) + " cannot be packed into a matrix of this format.");
}

void unpack_row(const Matrix& matrix, int row, float* out) {
    const uint8_t* tile = matrix.tile(row / kLanes);
    const int lane = row % kLanes;
    if (matrix.format == WeightFormat::Float32) {
        for (int column = 0; column < matrix.cols; ++column) {
            std::memcpy(out + column, tile + (size_t(column) * kLanes + size_t(lane)) * 4, sizeof(float));
        }
        return;
    }
    for (int group = 0; group < matrix.groups(); ++group, out += kGroupSize) {
        const GroupOffset offset = group_offset(matrix.format, matrix.groups(), group);
        const uint8_t* scales = tile + offset.scales + 2 * lane;
        const float scale = half_to_float(read_half(scales));
        const auto value = [&](int i) { return tile[offset.values + size_t(i / 4 * 64 + lane * 4 + i % 4)]; };
        if (matrix.format == WeightFormat::Q8) {
            for (int column = 0; column < kGroupSize; ++column) out[column] = scale * float(int(value(column)) - 128);
            continue;
        }
        const float minimum =
            matrix.format == WeightFormat::Q4 ? half_to_float(read_half(scales + kScaleBytes)) : -8.0f * scale;
        for (int column = 0; column < kGroupSize / 2; ++column) {
            out[column] = scale * float(value(column) & 15) + minimum;
            out[column + kGroupSize / 2] = scale * float(value(column) >> 4) + minimum;
        }
    }
}

}  // namespace empu
