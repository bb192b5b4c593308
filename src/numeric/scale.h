// SPDX-License-Identifier: BSD-3-Clause
// From exact lanes to floating point: the sum, the mean, the scale. The same
// code on host and device, IEEE operations only, round to nearest.
#ifndef NUMERIC_SCALE_H
#define NUMERIC_SCALE_H

#include "numeric/record.h"

// 2^exponent, for normal results.
NUMERIC_FN double numeric_power_of_two(int exponent)
{
    uint64_t bits = (uint64_t)(exponent + 1023) << 52;
    double power;

    memcpy(&power, &bits, sizeof(power));
    return power;
}

// The double nearest to (hi * 2^32 + lo) * 2^-40, ties to even; folded lanes.
NUMERIC_FN double numeric_sum(int64_t hi, int64_t lo)
{
    const uint64_t low_mask = 0xffffffff;
    bool negative = hi < 0;
    uint64_t high = (uint64_t)hi;
    uint64_t low = (uint64_t)lo;
    int shift = 0;

    if (negative) { // the magnitude, in the same two pieces
        low = (~low & low_mask) + 1;
        high = ~high + (low >> 32);
        low &= low_mask;
    }
    // 64 bits of the 96, the last one sticky: more than a double keeps, so the
    // conversion below rounds once.
    while (shift < 32 && (high >> (31 + shift)) != 0)
        shift++;
    uint64_t top = (high << (32 - shift)) | (low >> shift);
    if ((low & (((uint64_t)1 << shift) - 1)) != 0)
        top |= 1;
    double sum =
        (double)top * numeric_power_of_two(shift - NUMERIC_FRACTION_BITS);
    return negative ? -sum : sum;
}

// loss / weight; 0 where no weight is.
NUMERIC_FN double numeric_mean(double loss_sum, double weight_sum)
{
    return weight_sum > 0 ? loss_sum / weight_sum : 0;
}

// coefficient * divisor / weight, where `divisor` is what the framework divides
// gradients by; 0 where no weight is.
NUMERIC_FN float numeric_scale(int64_t weight_hi, int64_t weight_lo,
                               double coefficient, double divisor)
{
    double weight = numeric_sum(weight_hi, weight_lo);

    return weight > 0 ? (float)(coefficient * divisor / weight) : 0.0f;
}

#endif
