// SPDX-License-Identifier: BSD-3-Clause
// float32 as int64 in the same order, for MAX lanes: NaN above all, and
// NUMERIC_MAXIMUM_NONE (no value offered) below all.
#ifndef NUMERIC_MAXIMUM_H
#define NUMERIC_MAXIMUM_H

#include "numeric/record.h"

#define NUMERIC_MAXIMUM_NONE INT64_MIN
#define NUMERIC_MAXIMUM_NAN INT64_MAX

NUMERIC_FN int64_t numeric_maximum_encode(float x)
{
    int32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    if ((bits & 0x7fffffff) > 0x7f800000)
        return NUMERIC_MAXIMUM_NAN;
    return bits >= 0 ? bits : bits ^ 0x7fffffff;
}

// NONE reads as -inf.
NUMERIC_FN float numeric_maximum_decode(int64_t code)
{
    uint32_t bits = 0xff800000; // -inf
    float x;

    if (code == NUMERIC_MAXIMUM_NAN)
        bits = 0x7fc00000;
    else if (code >= 0)
        bits = (uint32_t)code;
    else if (code != NUMERIC_MAXIMUM_NONE)
        bits = (uint32_t)((int32_t)code ^ 0x7fffffff);
    memcpy(&x, &bits, sizeof(x));
    return x;
}

#endif
