// SPDX-License-Identifier: BSD-3-Clause
// What exact lanes must come to: sums of 128 bits, and the numbers that are
// most likely to go wrong. It uses nothing of src/numeric but the record's
// layout.
#ifndef HARNESS_EXACT_H
#define HARNESS_EXACT_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "harness/random.h"
#include "numeric/record.h"

// Sums of 2^-40.
__extension__ typedef __int128 exact_t;

#define EXACT_LANE ((exact_t)1 << 32)
// |sum| < 2^55, in units of 2^-40.
#define EXACT_BOUND ((exact_t)1 << 95)
// The smallest magnitude that is not a value.
#define EXACT_VALUE_BOUND 4194304.0 // 2^22

static inline exact_t exact_lanes(int64_t hi, int64_t lo)
{
    return (exact_t)hi * EXACT_LANE + lo;
}

// The canonical lanes of a sum below the bound.
static inline void exact_split(exact_t sum, int64_t *hi, int64_t *lo)
{
    exact_t rest = sum % EXACT_LANE;

    if (rest < 0)
        rest += EXACT_LANE;
    *lo = (int64_t)rest;
    *hi = (int64_t)((sum - rest) / EXACT_LANE);
}

// x in units of 2^-40, to nearest even, where x is a value. By way of the
// floating-point unit, which must round to nearest; scaling is exact, and a
// long double holds 64 bits or x has no more than 53.
static inline bool exact_encode(double x, int64_t *q)
{
    if (!isfinite(x) || fabs(x) >= EXACT_VALUE_BOUND)
        return false;
    *q = (int64_t)rintl(ldexpl((long double)x, NUMERIC_FRACTION_BITS));
    return true;
}

static inline double exact_bits_value(uint64_t bits)
{
    double x;

    memcpy(&x, &bits, sizeof(x));
    return x;
}

// 0 to 2^bits - 1, bits from 1 to 64.
static inline int64_t exact_draw_bits(struct random *random, uint32_t bits)
{
    return (int64_t)(random_next(random) >> (64 - bits));
}

// A value (|x| < 2^22): of any size, a tie, a small integer, close to a bound.
static inline double exact_draw_value(struct random *random)
{
    double sign = random_below(random, 2) == 0 ? 1 : -1;

    switch (random_below(random, 6)) {
    case 0: // spread evenly
        return sign * ldexp((double)exact_draw_bits(random, 53), 22 - 53);
    case 1: // spread over exponents, some below all lanes
        return sign * ldexp(1 + ldexp((double)exact_draw_bits(random, 52), -52),
                            21 - (int)random_below(random, 80));
    case 2: // half-way between two lanes
        return sign *
               ldexp((double)(2 * exact_draw_bits(
                                      random, 1 + random_below(random, 51)) +
                              1),
                     -NUMERIC_FRACTION_BITS - 1);
    case 3:
        return sign * (double)random_below(random, 100);
    case 4: // the largest ones
        return sign * (EXACT_VALUE_BOUND -
                       ldexp((double)(1 + random_below(random, 100)), -31));
    default: // denormal
        return sign * exact_bits_value((uint64_t)exact_draw_bits(random, 52));
    }
}

// A folded record that fits (numeric_record_fits), close to the bounds.
struct numeric_record exact_draw_record(struct random *random, int64_t ranks);

// into += n * from, by doubling: as if n tokens, threads or ranks had been
// added. `folds`: what is doubled is folded each time.
void exact_add_times(struct numeric_record *into,
                     const struct numeric_record *from, int64_t n, bool folds);

// Adds records two at a time, any two, folding now and then, until one is left;
// the others are spoilt.
struct numeric_record exact_combine(struct numeric_record *records,
                                    uint32_t count, struct random *random);

// Checks, which name the lane and the seed.
void exact_assert_lanes(int64_t hi, int64_t lo, exact_t sum);
void exact_assert_record(const struct numeric_record *got,
                         const struct numeric_record *want, int seed);

#endif
