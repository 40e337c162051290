#include "model/matrix.hpp"

#include <cmath>
#include <limits>

#include "kernels/float16.hpp"

namespace empu {

namespace {

uint16_t read_half(const uint8_t* at) {
    uint16_t half;
    std::memcpy(&half, at, sizeof half);
    return half;
}

// A scale or a minimum of a file's block.
uint16_t read_finite(const uint8_t* at) {
    const uint16_t half = read_half(at);
    if ((half & 0x7c00) == 0x7c00) throw NotFinite("A scale or minimum is not finite.");
    return half;
}

void write_half(uint8_t* at, uint16_t half) { std::memcpy(at, &half, sizeof half); }

// Four neighbouring numbers of one row, which stay neighbours in a tile.
uint32_t read_four(const uint8_t* at) {
    uint32_t four;
    std::memcpy(&four, at, sizeof four);
    return four;
}

// Fills `lines` lines of one row's group, `four(i)` giving the four bytes of line i, and its scale; gives the place of
// the scale.
template <typename Four>
uint8_t* put(Matrix& matrix, int row, int group, int lines, uint16_t scale, const Four& four) {
    uint8_t* tile = matrix.memory.bytes() + matrix.tile_bytes * size_t(row / kLanes);
    const Place place = place_of(matrix.kind, matrix.groups(), group);
    const int lane = row % kLanes;
    for (int line = 0; line < lines; ++line) {
        const uint32_t bytes = four(line);
        std::memcpy(tile + place.numbers + 64 * line + 4 * lane, &bytes, sizeof bytes);
    }
    write_half(tile + place.scales + 2 * lane, scale);
    return tile + place.scales + 2 * lane;
}

// `four(i)` gives columns 4i to 4i+3 in the low halves of its bytes and columns 16+4i to 16+4i+3 in the high ones.
template <typename Four>
void put_q4(Matrix& matrix, int row, int group, uint16_t scale, uint16_t minimum, const Four& four) {
    write_half(put(matrix, row, group, 4, scale, four) + kScales, minimum);
}

void put_q8(Matrix& matrix, int row, int group, const uint8_t* numbers, uint16_t scale) {
    put(matrix, row, group, 8, scale, [&](int i) { return read_four(numbers + 4 * i) ^ 0x80808080u; });  // 128 more
}

void pack_q4_0(Matrix& matrix, int row, const uint8_t* block) {
    for (int group = 0; group < matrix.groups(); ++group, block += 18) {
        put(matrix, row, group, 4, read_finite(block), [&](int i) { return read_four(block + 2 + 4 * i); });
    }
}

void pack_q4_1(Matrix& matrix, int row, const uint8_t* block) {
    for (int group = 0; group < matrix.groups(); ++group, block += 20) {
        put_q4(matrix, row, group, read_finite(block), read_finite(block + 2),
               [&](int i) { return read_four(block + 4 + 4 * i); });
    }
}

// Eight groups share two floats; each group has a six-bit scale and a six-bit minimum (layout of ggml's block_q4_K).
// Two groups share 32 bytes: one has the low halves, the next one the high halves.
void pack_q4_k(Matrix& matrix, int row, const uint8_t* block) {
    for (int first = 0; first < matrix.groups(); first += 8, block += 144) {
        const float scale = float_of_half(read_finite(block)), minimum = float_of_half(read_finite(block + 2));
        const uint8_t* six = block + 4;
        for (int i = 0; i < 8; ++i) {
            const int s = i < 4 ? six[i] & 63 : (six[i + 4] & 15) | (six[i - 4] >> 6 << 4);
            const int m = i < 4 ? six[i + 4] & 63 : (six[i + 4] >> 4) | (six[i] >> 6 << 4);
            const uint8_t* packed = block + 16 + i / 2 * 32;
            const auto half = [&](int at) { return read_four(packed + at) >> (i % 2 * 4) & 0x0f0f0f0fu; };
            put_q4(matrix, row, first + i, half_of_float(scale * float(s)), half_of_float(-minimum * float(m)),
                   [&](int four) { return half(4 * four) | half(16 + 4 * four) << 4; });
        }
    }
}

void pack_q8_0(Matrix& matrix, int row, const uint8_t* block) {
    for (int group = 0; group < matrix.groups(); ++group, block += 34) {
        put_q8(matrix, row, group, block + 2, read_finite(block));
    }
}

// Comparisons that NaN fails, and that the compiler turns into vectors, unlike std::fmax and its like.
float larger(float a, float b) { return a > b ? a : b; }
float smaller(float a, float b) { return a < b ? a : b; }

void round_to_q8(Matrix& matrix, int row, const uint8_t* data) {
    for (int group = 0; group < matrix.groups(); ++group, data += 4 * kGroup) {
        float values[kGroup], largest = 0;
        std::memcpy(values, data, sizeof values);
        for (const float value : values) largest = larger(std::fabs(value), largest);
        const uint16_t scale = half_of_float(largest / 127.0f);
        const float stored = float_of_half(scale);
        uint8_t numbers[kGroup] = {};
        for (int i = 0; stored > 0 && i < kGroup; ++i) {
            const float number = smaller(larger(values[i] / stored, -127.0f), 127.0f);
            numbers[i] = uint8_t(bits_of_float(number + 12582912.0f));  // 1.5 * 2^23: rounded, in the lowest bits
        }
        put_q8(matrix, row, group, numbers, scale);
    }
}

// To 16 steps from the smallest to the largest of a group, as the type Q4_1 is made: numbers by the exact scale and
// minimum, which are then stored as 16-bit floats.
void round_to_q4(Matrix& matrix, int row, const uint8_t* data) {
    for (int group = 0; group < matrix.groups(); ++group, data += kGroup * sizeof(float)) {
        float values[kGroup];
        std::memcpy(values, data, sizeof values);
        float least = std::numeric_limits<float>::max(), most = -least;
        for (const float value : values) {
            least = smaller(value, least);
            most = larger(value, most);
        }
        const float scale = (most - least) / 15.0f;
        const float inverse = scale >= 0x1p-126f ? 1.0f / scale : 0.0f;
        uint8_t numbers[kGroup];
        for (int i = 0; i < kGroup; ++i) {
            const float number = smaller(larger((values[i] - least) * inverse + 0.5f, 0.0f), 15.0f);
            numbers[i] = uint8_t(int32_t(number));
        }
        uint32_t fours[4];
        for (int i = 0; i < 4; ++i) fours[i] = read_four(numbers + 4 * i) | read_four(numbers + 16 + 4 * i) << 4;
        put_q4(matrix, row, group, half_of_float(scale), half_of_float(least), [&](int i) { return fours[i]; });
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
    {"Q4_0", Kind::Q4Symmetric, 32, 18, pack_q4_0}, {"Q4_1", Kind::Q4, 32, 20, pack_q4_1},
    {"Q4_K", Kind::Q4, 256, 144, pack_q4_k},        {"Q8_0", Kind::Q8, 32, 34, pack_q8_0},
    {"F32", Kind::Q4, 32, 128, round_to_q4},        {"F32", Kind::Q8, 32, 128, round_to_q8},
    {"F32", Kind::Float32, 1, 4, place_floats},
};

}  // namespace

namespace {

Matrix shaped(Kind kind, int rows, int cols) {
    if (rows < 1 || cols < 1) throw Error("A matrix needs at least one row and one column.");
    if (kind != Kind::Float32 && cols % kGroup != 0) {
        throw Error("A quantised matrix has " + std::to_string(cols) + " columns; a multiple of 32 was expected.");
    }
    Matrix matrix;
    matrix.kind = kind;
    matrix.rows = rows;
    matrix.cols = cols;
    matrix.tiles = (rows + kLanes - 1) / kLanes;
    const int groups = cols / kGroup;
    const auto in_pairs = [&](size_t numbers) { return numbers_at(numbers, groups) + size_t(groups % 2) * 64; };
    if (kind == Kind::Float32) matrix.tile_bytes = size_t(cols) * kLanes * sizeof(float);
    if (kind == Kind::Q4) matrix.tile_bytes = size_t(groups) * kQ4GroupBytes;
    if (kind == Kind::Q4Symmetric) matrix.tile_bytes = in_pairs(kQ4Numbers);
    if (kind == Kind::Q8) matrix.tile_bytes = in_pairs(kQ8Numbers);
    return matrix;
}

}  // namespace

size_t matrix_bytes(Kind kind, int rows, int cols) { return shaped(kind, rows, cols).bytes(); }

Matrix make_matrix(Kind kind, int rows, int cols) {
    Matrix matrix = shaped(kind, rows, cols);
    matrix.memory = Memory(matrix.bytes());
    return matrix;
}

Matrix make_matrix(Kind kind, int rows, int cols, Room& room) {
    Matrix matrix = shaped(kind, rows, cols);
    matrix.memory = room.take(matrix.bytes());
    return matrix;
}

Matrix map_matrix(Kind kind, int rows, int cols, const Memory& memory, size_t offset) {
    Matrix matrix = shaped(kind, rows, cols);
    matrix.memory = memory.part(offset, matrix.bytes());
    return matrix;
}

void pack_rows(Matrix& matrix, int first, int count, std::string_view type, const uint8_t* data, size_t bytes) {
    if (!matrix.memory.is_writable()) throw Error("Weights that lie in a file cannot be changed.");
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
        const Place place = place_of(matrix.kind, matrix.groups(), group);
        const uint8_t* scales = tile + place.scales + 2 * lane;
        const float scale = float_of_half(read_half(scales));
        const auto number = [&](int i) { return tile[place.numbers + size_t(i / 4 * 64 + lane * 4 + i % 4)]; };
        if (matrix.kind == Kind::Q8) {
            for (int column = 0; column < kGroup; ++column) out[column] = scale * float(int(number(column)) - 128);
            continue;
        }
        const float minimum = matrix.kind == Kind::Q4 ? float_of_half(read_half(scales + kScales)) : -8.0f * scale;
        for (int column = 0; column < kGroup / 2; ++column) {
            out[column] = scale * float(number(column) & 15) + minimum;
            out[column + kGroup / 2] = scale * float(number(column) >> 4) + minimum;
        }
    }
}

}  // namespace empu
