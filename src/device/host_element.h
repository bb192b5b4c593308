// SPDX-License-Identifier: BSD-3-Clause
// One logit to and from memory: float32, bfloat16 and binary16, by bits, at any
// alignment. Rounds to nearest even; every NaN is stored as the same one.
#ifndef DEVICE_HOST_ELEMENT_H
#define DEVICE_HOST_ELEMENT_H

#include <stdint.h>
#include <string.h>

#include "device/host_row.h"

#define HOST_NAN_BITS 0x7fc00000u

static inline uint32_t host_bits_of_float(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

static inline float host_float_of_bits(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof(x));
    return x;
}

static inline float host_float_canonical(float x)
{
    return x == x ? x : host_float_of_bits(HOST_NAN_BITS);
}

static inline uint16_t host_bf16_of_float(float x)
{
    uint32_t bits = host_bits_of_float(host_float_canonical(x));

    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline float host_float_of_bf16(uint16_t half)
{
    return host_float_of_bits((uint32_t)half << 16);
}

static inline uint16_t host_f16_of_float(float x)
{
    uint32_t bits = host_bits_of_float(host_float_canonical(x));
    uint32_t sign = bits >> 16 & 0x8000;
    uint32_t magnitude = bits & 0x7fffffff;

    if (magnitude >= 0x7f800000)
        return (uint16_t)(sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00));
    if (magnitude >= 0x38800000) { // 2^-14, the smallest normal one
        // 13 bits go; the carry may reach the exponent, at last infinity.
        magnitude += 0xfff + (magnitude >> 13 & 1);
        magnitude = (magnitude >> 13) - ((127 - 15) << 10);
        return (uint16_t)(sign | (magnitude < 0x7c00 ? magnitude : 0x7c00));
    }
    // Denormal: units of 2^-24.
    uint32_t shift = 126 - (magnitude >> 23);
    if (shift > 24)
        return (uint16_t)sign;
    uint32_t mantissa = (magnitude & 0x7fffff) | 0x800000;
    uint32_t half = (uint32_t)1 << (shift - 1);
    uint32_t odd = mantissa >> shift & 1;
    return (uint16_t)(sign | (mantissa + half - 1 + odd) >> shift);
}

static inline float host_float_of_f16(uint16_t half)
{
    const float unit = 5.9604644775390625e-8f; // 2^-24
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = half >> 10 & 0x1f;
    uint32_t mantissa = half & 0x3ff;

    if (exponent == 0x1f)
        return host_float_of_bits(sign | 0x7f800000 | mantissa << 13);
    if (exponent != 0)
        return host_float_of_bits(sign | (exponent + 127 - 15) << 23 |
                                  mantissa << 13);
    float magnitude = (float)mantissa * unit;
    return sign != 0 ? -magnitude : magnitude;
}

static inline int64_t host_element_size(enum host_row_type type)
{
    return type == HOST_ROW_F32 ? 4 : 2;
}

static inline float host_element_load(enum host_row_type type,
                                      const void *values, int64_t index)
{
    const char *at = (const char *)values + index * host_element_size(type);
    uint16_t half;
    float x;

    if (type == HOST_ROW_F32) {
        memcpy(&x, at, sizeof(x));
        return x;
    }
    memcpy(&half, at, sizeof(half));
    return type == HOST_ROW_BF16 ? host_float_of_bf16(half)
                                 : host_float_of_f16(half);
}

static inline void host_element_store(enum host_row_type type, void *values,
                                      int64_t index, float x)
{
    char *at = (char *)values + index * host_element_size(type);

    if (type == HOST_ROW_F32) {
        x = host_float_canonical(x);
        memcpy(at, &x, sizeof(x));
    } else {
        uint16_t half = type == HOST_ROW_BF16 ? host_bf16_of_float(x)
                                              : host_f16_of_float(x);
        memcpy(at, &half, sizeof(half));
    }
}

#endif
