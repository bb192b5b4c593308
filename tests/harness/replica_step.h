// SPDX-License-Identifier: BSD-3-Clause
// One rank of a replica group, as a thread, with a step of one channel. For
// what happens to processes there is tests/fault.
#ifndef HARNESS_REPLICA_STEP_H
#define HARNESS_REPLICA_STEP_H

#include "harness/job.h"

#define REPLICA_STEP_SETTINGS_MAX 32

struct replica_step {
    struct job job;
    const char *settings[REPLICA_STEP_SETTINGS_MAX];
    tally_step_t *step;
};

// Opens replica `number` of so many, and asserts that it works. member: its
// ranks; NULL: it is of one. settings: as job_open's, beside how they reach
// each other.
void replica_step_open(struct replica_step *replica,
                       struct ranks_member *member, const char *const *settings,
                       int32_t number, int32_t replicas);
void replica_step_close(struct replica_step *replica);

// An epoch with tokens, again until it is counted: at the beginning others may
// be late.
void replica_step_count(struct replica_step *replica);

// Votes READY, and asks until the verdict is there.
void replica_step_apply(struct replica_step *replica,
                        tally_replica_verdict_t *verdict);

#endif
