// SPDX-License-Identifier: BSD-3-Clause
// A file that holds the model and its optimizer after some step, for a job that
// starts again when no replica is left to copy from. A crash at any time leaves
// the file of before, or the new one whole.
#ifndef TRAINER_CHECKPOINT_H
#define TRAINER_CHECKPOINT_H

#include <stdbool.h>
#include <tally/tally.h>

#include "model/model.h"
#include "model/optimizer.h"

struct checkpoint_params {
    const char *path;
    int32_t replica; // that writes
    int32_t replicas;
    uint64_t digest; // of what a run that goes on must have in common
};

// Writes a checkpoint of that state beside the file, to the disk. It is
// nobody's yet.
bool checkpoint_write(const struct checkpoint_params *params,
                      const tally_replica_state_t *state,
                      const struct model *parameters,
                      const struct optimizer *optimizer);

// What was written last takes the file's place.
bool checkpoint_keep(const struct checkpoint_params *params);

enum checkpoint_outcome { CHECKPOINT_READ, CHECKPOINT_NONE, CHECKPOINT_WRONG };

// Reads the file into the model and the optimizer; or, if `wanted` is not NULL,
// what holds that state, in the file's place or beside it. NONE: there is no
// such file; nothing is changed without `wanted`. WRONG, and said why: it is of
// another run, or broken.
enum checkpoint_outcome checkpoint_read(const struct checkpoint_params *params,
                                        const tally_replica_state_t *wanted,
                                        struct model *parameters,
                                        struct optimizer *optimizer);

#endif
