// SPDX-License-Identifier: BSD-3-Clause
// compare RANKS BALANCED REFERENCE NAIVE: prints the three curves side by side
// and whether what was promised holds; exits with 1 if it does not.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "../fail.h"
#include "comparison.h"

enum { BALANCED, REFERENCE, NAIVE, CURVES };

static bool counts_agree(const int64_t counts[CURVES])
{
    if (counts[BALANCED] == counts[REFERENCE] &&
        counts[NAIVE] == counts[REFERENCE])
        return true;
    return trainer_fail("curves of %" PRId64 ", %" PRId64 " and %" PRId64
                        " steps cannot be compared",
                        counts[BALANCED], counts[REFERENCE], counts[NAIVE]);
}

int main(int argc, char **argv)
{
    struct curve_row *rows[CURVES] = {NULL};
    int64_t counts[CURVES] = {0};
    bool ok = true;

    if (argc != 2 + CURVES || atoi(argv[1]) < 1) {
        fputs("Usage: compare RANKS BALANCED.tsv REFERENCE.tsv NAIVE.tsv\n",
              stderr);
        return EXIT_FAILURE;
    }
    for (int i = 0; i < CURVES && ok; i++)
        ok = curve_read(argv[2 + i], &rows[i], &counts[i]);
    if (ok && counts_agree(counts)) {
        struct comparison comparison = {.balanced = rows[BALANCED],
                                        .reference = rows[REFERENCE],
                                        .naive = rows[NAIVE],
                                        .steps = counts[REFERENCE],
                                        .ranks = atoi(argv[1])};
        comparison_make(&comparison);
        comparison_print(&comparison, stdout);
        ok = comparison_holds(&comparison);
    } else {
        ok = false;
    }
    for (int i = 0; i < CURVES; i++)
        free(rows[i]);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
