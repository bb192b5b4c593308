// SPDX-License-Identifier: BSD-3-Clause
// Compares the curves of the three modes: what was promised, and by how much
// the naive way is off.
#ifndef TRAINER_COMPARISON_H
#define TRAINER_COMPARISON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "curve.h"

// Balanced and reference may differ by this much (relative, any step).
#define COMPARISON_TOLERANCE 1e-5
// The naive curve counts as visibly different from here on (relative, average
// over the steps in which every rank has tokens).
#define COMPARISON_VISIBLE 0.01

struct comparison {
    const struct curve_row *balanced;
    const struct curve_row *reference;
    const struct curve_row *naive;
    int64_t steps; // of each
    int32_t ranks;

    int64_t other_totals;  // steps in which N_total differs
    int64_t partly_silent; // steps without a token on some rank
    int64_t all_silent;    // steps without a token on any rank
    int64_t wrong_silent;  // of those: not as promised (EMPTY, loss 0)
    bool first_sum_equal;  // loss sum of step 1, to the bit
    int64_t sums_equal;    // steps in which it is equal to the bit
    double difference_max; // |balanced - reference| / reference, any step
    int64_t spoken;        // steps in which every rank has tokens
    double naive_average;  // of |naive - reference| / reference, where every
                           // rank has tokens
    double naive_max;      // in any step
};

// Fills in what follows `ranks` from what is before it.
void comparison_make(struct comparison *comparison);

// Whether all is as promised.
bool comparison_holds(const struct comparison *comparison);

void comparison_print(const struct comparison *comparison, FILE *out);

#endif
