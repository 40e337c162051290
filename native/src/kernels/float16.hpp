// 16-bit floats of both kinds by bits, equal to the processor's own conversions. Free of library templates: see
// ops_portable.hpp.
#pragma once

#include <stdint.h>
#include <string.h>

namespace empu {
namespace {

inline float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

inline uint32_t bits_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

// Exponent and fraction move into place and a product corrects the bias, which gives the subnormal ones exactly.
inline float float_of_half(uint16_t half) {
    const uint32_t magnitude = half & 0x7fffu;
    const uint32_t finite = bits_of_float(float_of_bits(magnitude << 13) * 0x1p112f);
    const uint32_t special = (magnitude << 13) | 0x7f800000u;
    return float_of_bits((magnitude >= 0x7c00u ? special : finite) | (half & 0x8000u) << 16);
}

// To nearest, ties to even; beyond the range the largest finite value, so that sums stay finite. NaN becomes NaN.
inline uint16_t half_of_float(float value) {
    const uint32_t bits = bits_of_float(value);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x477fe000u) return (uint16_t)(sign | 0x7bffu);
    if (magnitude < 0x38800000u) {  // subnormal: adding 0.5 rounds at 2^-24
        return (uint16_t)(sign | (bits_of_float(float_of_bits(magnitude) + 0.5f) - 0x3f000000u));
    }
    return (uint16_t)(sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13));
}

inline float float_of_bfloat(uint16_t bfloat) { return float_of_bits((uint32_t)bfloat << 16); }

// To nearest, ties to even; for finite values well inside the range.
inline uint16_t bfloat_of_float(float value) {
    const uint32_t bits = bits_of_float(value);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace
}  // namespace empu
