// SPDX-License-Identifier: BSD-3-Clause
// Natural logarithms in double, the same bits everywhere: those of libm differ
// between processors. C11, C++11 and CUDA; round to nearest, no contraction.
#ifndef NUMERIC_LOG_H
#define NUMERIC_LOG_H

#include "numeric/record.h"

// log((1 + s) / (1 - s)) for |s| < 0.172: s^2 to the 11th is below 2^-56.
NUMERIC_FN double numeric_log_ratio(double s)
{
    double square = s * s;
    double sum = 0;

    for (int k = 21; k > 1; k -= 2)
        sum = square * (1.0 / k + sum);
    return 2 * s + 2 * s * sum;
}

// x normal and positive, or NaN; within 2 units in the last place, but near 1
// within 2^-52 of x - 1.
NUMERIC_FN double numeric_log(double x)
{
    const double ln2_high = 6.93147180369123816490e-01; // 33 bits
    const double ln2_low = 1.90821492927058770002e-10;
    const double root_of_two = 1.41421356237309504880;
    const uint64_t exponent_of_one = (uint64_t)1023 << 52;
    uint64_t bits;
    double f;

    if (x != x)
        return x;
    memcpy(&bits, &x, sizeof(bits));
    int exponent = (int)(bits >> 52) - 1023;
    bits = (bits & (((uint64_t)1 << 52) - 1)) | exponent_of_one;
    memcpy(&f, &bits, sizeof(f));
    if (f > root_of_two) {
        f *= 0.5;
        exponent++;
    }
    return exponent * ln2_high +
           (exponent * ln2_low + numeric_log_ratio((f - 1) / (f + 1)));
}

// log(1 + y), y >= 0 or NaN; within 4 units in the last place, however small y.
NUMERIC_FN double numeric_log1p(double y)
{
    return y < 0.25 ? numeric_log_ratio(y / (2 + y)) : numeric_log(1 + y);
}

#endif
