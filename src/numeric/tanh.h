// SPDX-License-Identifier: BSD-3-Clause
// tanh near 0, where 1 - exp(-2x) has few digits. C11, C++11 and CUDA.
#ifndef NUMERIC_TANH_H
#define NUMERIC_TANH_H

#include "numeric/record.h"

#define NUMERIC_TANH_NEAR 0.4f

// tanh(x) for 0 <= x < NUMERIC_TANH_NEAR: its series about 0, to x^11.
NUMERIC_FN float numeric_tanh_near(float x)
{
    const float square = x * x;
    float sum = -0.00886323553f; // -1382 / 155925

    sum = sum * square + 0.0218694885f;
    sum = sum * square - 0.0539682540f;
    sum = sum * square + 0.133333333f;
    sum = sum * square - 0.333333333f;
    return sum * square * x + x;
}

#endif
