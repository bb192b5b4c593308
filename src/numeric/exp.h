// SPDX-License-Identifier: BSD-3-Clause
// exp of what is not positive, in double, the same bits everywhere: those of
// libm differ between processors. C11, C++11 and CUDA; round to nearest, no
// contraction.
#ifndef NUMERIC_EXP_H
#define NUMERIC_EXP_H

#include "numeric/scale.h"

// Below it the result is 0: no normal number is far away.
#define NUMERIC_EXP_LOWEST (-708.0)

// x <= 0 or NaN; within 2 units in the last place.
NUMERIC_FN double numeric_exp(double x)
{
    const double log2_e = 1.44269504088896338700e+00;
    const double ln2_high = 6.93147180369123816490e-01; // 33 bits
    const double ln2_low = 1.90821492927058770002e-10;
    // Adding 1.5 * 2^52 rounds to an integer.
    const double rounder = 6755399441055744.0;

    if (!(x >= NUMERIC_EXP_LOWEST))
        return x < NUMERIC_EXP_LOWEST ? 0 : x;
    double n = x * log2_e + rounder - rounder;
    double r = x - n * ln2_high - n * ln2_low;
    // Taylor's series: |r| < 0.35, and 0.35^14 / 14! < 2^-57.
    double power = 1;
    for (int k = 13; k > 0; k--)
        power = 1 + power * r / k;
    return power * numeric_power_of_two((int)n);
}

#endif
