// SPDX-License-Identifier: BSD-3-Clause
// The 64-byte record of one channel and exact addition in it: encode, add,
// fold. C11 and CUDA; no libm, no state, no dependence on the floating-point
// mode.
//
// A value x becomes q = x * 2^40 rounded to nearest even, a signed 64-bit
// integer, kept as lo += q & 0xffffffff, hi += q >> 32. The sum is
// (hi * 2^32 + lo) * 2^-40. A fold moves the carry of lo into hi and makes the
// lanes canonical: 0 <= lo < 2^32. Integer addition is associative, so any
// order, grouping and fold gives the same canonical lanes. lo holds 2^31 terms
// between folds, what a fold left counting as one: tokens, or folded lanes of
// ranks.
#ifndef NUMERIC_RECORD_H
#define NUMERIC_RECORD_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define NUMERIC_FN __host__ __device__ static inline
#else
#define NUMERIC_FN static inline
#endif

#define NUMERIC_LANES 8
#define NUMERIC_FRACTION_BITS 40

// hi of a weight of 1 (its lo is 0): so a count of tokens is a sum of weights.
#define NUMERIC_ONE_HI ((int64_t)1 << (NUMERIC_FRACTION_BITS - 32))

// Added to `nonfinite` by a rank whose sums do not fit (numeric_record_mark):
// no step has so many tokens, and 2^22 ranks may all add it.
#define NUMERIC_OVERFLOW_MARK ((int64_t)1 << 40)

// Tokens of one rank whose sums cannot have wrapped: each is below 2^22.
#define NUMERIC_TOKENS_MAX ((int64_t)1 << 33)

struct numeric_record {
    int64_t loss_hi, loss_lo;
    int64_t weight_hi, weight_lo;
    int64_t count;
    int64_t nonfinite;
    int64_t bad_labels;
    int64_t reserved; // 0; on a stream, the seal (seal.h)
};

// Wraps where the sum does not fit; callers check that it does.
NUMERIC_FN int64_t numeric_add(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

// *q = x * 2^40 to nearest even; false (and *q untouched) if x is not finite or
// |x| >= 2^22.
NUMERIC_FN bool numeric_encode(double x, int64_t *q)
{
    uint64_t bits;
    uint64_t magnitude;

    memcpy(&bits, &x, sizeof(bits));
    int exponent = (int)(bits >> 52) & 0x7ff;
    uint64_t mantissa = bits & (((uint64_t)1 << 52) - 1);
    if (exponent >= 1023 + 22)
        return false;
    if (exponent > 0)
        mantissa |= (uint64_t)1 << 52;
    else
        exponent = 1;
    int shift = exponent - (1075 - NUMERIC_FRACTION_BITS);
    if (shift >= 0) {
        magnitude = mantissa << shift;
    } else if (shift < -54) {
        magnitude = 0;
    } else {
        uint64_t half = (uint64_t)1 << (-shift - 1);
        uint64_t rest = mantissa & (2 * half - 1);
        magnitude = mantissa >> -shift;
        if (rest > half || (rest == half && (magnitude & 1) != 0))
            magnitude++;
    }
    *q = bits >> 63 ? -(int64_t)magnitude : (int64_t)magnitude;
    return true;
}

NUMERIC_FN void numeric_lanes_add(int64_t *hi, int64_t *lo, int64_t q)
{
    *hi = numeric_add(*hi, q >> 32);
    *lo = numeric_add(*lo, q & 0xffffffff);
}

NUMERIC_FN void numeric_lanes_fold(int64_t *hi, int64_t *lo)
{
    *hi = numeric_add(*hi, *lo >> 32);
    *lo &= 0xffffffff;
}

NUMERIC_FN void numeric_record_fold(struct numeric_record *record)
{
    numeric_lanes_fold(&record->loss_hi, &record->loss_lo);
    numeric_lanes_fold(&record->weight_hi, &record->weight_lo);
}

NUMERIC_FN void numeric_record_add(struct numeric_record *into,
                                   const struct numeric_record *from)
{
    into->loss_hi = numeric_add(into->loss_hi, from->loss_hi);
    into->loss_lo = numeric_add(into->loss_lo, from->loss_lo);
    into->weight_hi = numeric_add(into->weight_hi, from->weight_hi);
    into->weight_lo = numeric_add(into->weight_lo, from->weight_lo);
    into->count = numeric_add(into->count, from->count);
    into->nonfinite = numeric_add(into->nonfinite, from->nonfinite);
    into->bad_labels = numeric_add(into->bad_labels, from->bad_labels);
}

// Whether a folded record may be added to those of `ranks` ranks that all fit:
// then no total reaches 2^55. Its count says whether its sums can be believed.
NUMERIC_FN bool numeric_record_fits(const struct numeric_record *record,
                                    int64_t ranks)
{
    int64_t bound = INT64_MAX / ranks;

    return record->count <= NUMERIC_TOKENS_MAX && record->loss_hi >= -bound &&
           record->loss_hi < bound && record->weight_hi >= -bound &&
           record->weight_hi < bound;
}

// Replaces a record that does not fit by one that says so in any total.
NUMERIC_FN void numeric_record_mark(struct numeric_record *record)
{
    memset(record, 0, sizeof(*record));
    record->nonfinite = NUMERIC_OVERFLOW_MARK;
}

NUMERIC_FN bool numeric_record_overflowed(const struct numeric_record *total)
{
    return total->nonfinite >= NUMERIC_OVERFLOW_MARK;
}

#endif
