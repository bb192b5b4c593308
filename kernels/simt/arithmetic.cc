// SPDX-License-Identifier: BSD-3-Clause
// The emulator's arithmetic: what single instructions of the GPU compute.
#include <math.h>

#include "device/host_element.h"
#include "kernels/gpu.h"

float gpu_exp2(float x)
{
    float y = exp2f(x);

    return y < 0x1p-126f ? 0 : y;
}

float gpu_reciprocal(float x)
{
    return 1 / x;
}

int gpu_lowest_bit(uint32_t bits)
{
    return __builtin_ctz(bits);
}

uint32_t gpu_funnel(uint32_t low, uint32_t high, int shift)
{
    return (uint32_t)(((uint64_t)high << 32 | low) >> shift);
}

float gpu_float_of_f16(uint16_t half)
{
    return host_float_of_f16(half);
}

// Of each half the larger one; a number wins over NaN.
static uint32_t max_pair(uint32_t a, uint32_t b, float (*value)(uint16_t))
{
    uint32_t all = 0;

    for (int shift = 0; shift < 32; shift += 16) {
        uint16_t x = (uint16_t)(a >> shift);
        uint16_t y = (uint16_t)(b >> shift);
        bool second = value(y) > value(x) || value(x) != value(x);
        all |= (uint32_t)(second ? y : x) << shift;
    }
    return all;
}

uint32_t gpu_max_bf16(uint32_t a, uint32_t b)
{
    return max_pair(a, b, host_float_of_bf16);
}

uint32_t gpu_max_f16(uint32_t a, uint32_t b)
{
    return max_pair(a, b, host_float_of_f16);
}

uint32_t gpu_bf16_pair(float low, float high)
{
    return (uint32_t)host_bf16_of_float(high) << 16 | host_bf16_of_float(low);
}

uint32_t gpu_f16_pair(float low, float high)
{
    return (uint32_t)host_f16_of_float(high) << 16 | host_f16_of_float(low);
}
