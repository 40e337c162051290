// Conversions of IEEE half floats and bfloat16 by bits, equal to the processor's own. No library templates are used:
// see scalar/ops.hpp.
#pragma once

#include <stdint.h>
#include <string.h>

namespace empu {
namespace {

inline float bits_to_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

inline uint32_t float_to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

// Shift exponent and fraction into place; multiplying corrects the exponent bias, exactly also for subnormals.
inline float half_to_float(uint16_t half) {
    const uint32_t magnitude = half & 0x7fffu;
    const uint32_t finite = float_to_bits(bits_to_float(magnitude << 13) * 0x1p112f);
    const uint32_t special = (magnitude << 13) | 0x7f800000u;
    return bits_to_float((magnitude >= 0x7c00u ? special : finite) | (half & 0x8000u) << 16);
}

// To nearest, ties to even. Values beyond the range become the largest finite value, so that sums stay finite. NaN
// stays NaN.
inline uint16_t float_to_half(float value) {
    const uint32_t bits = float_to_bits(value);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x477fe000u) return (uint16_t)(sign | 0x7bffu);
    if (magnitude < 0x38800000u) {  // subnormal: adding 0.5 rounds at 2^-24
        return (uint16_t)(sign | (float_to_bits(bits_to_float(magnitude) + 0.5f) - 0x3f000000u));
    }
    return (uint16_t)(sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13));
}

inline float bfloat16_to_float(uint16_t bfloat16) { return bits_to_float((uint32_t)bfloat16 << 16); }

// To nearest, ties to even; for finite values well inside the range.
inline uint16_t float_to_bfloat16(float value) {
    const uint32_t bits = float_to_bits(value);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace
}  // namespace empu
