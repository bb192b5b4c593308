// SPDX-License-Identifier: BSD-3-Clause
// Spreads each bit of a word over all of them, as splitmix64 does (Steele, Lea,
// Flood: Fast splittable pseudorandom number generators, 2014). The same code
// on host and device.
#ifndef NUMERIC_MIX_H
#define NUMERIC_MIX_H

#include "numeric/record.h"

// What splitmix64 adds to its state at each step.
#define NUMERIC_MIX_STEP 0x9e3779b97f4a7c15u

// The number that follows the state x.
NUMERIC_FN uint64_t numeric_mix(uint64_t x)
{
    x += NUMERIC_MIX_STEP;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

#endif
