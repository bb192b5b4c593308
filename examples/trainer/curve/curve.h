// SPDX-License-Identifier: BSD-3-Clause
// The loss curve of a run: one row a step, and the file it is kept in
// (tab-separated, a comment line first, doubles to the last bit).
#ifndef TRAINER_CURVE_H
#define TRAINER_CURVE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct curve_row {
    int64_t step;             // from 1
    int64_t n_total;          // valid tokens of all ranks
    int64_t loss_hi, loss_lo; // their summed loss, (hi * 2^32 + lo) * 2^-40
    double mean;              // the loss as the run logs it
    uint32_t flags;           // of Tally's result
    int32_t silent;           // ranks without a valid token
    double heldout;           // NaN: not evaluated in this step
};

bool curve_begin(FILE *file);

// The row is in the file when it returns: others watch it grow.
bool curve_write(FILE *file, const struct curve_row *row);

// All rows of a file; *rows is the caller's to free.
bool curve_read(const char *path, struct curve_row **rows, int64_t *count);

#endif
