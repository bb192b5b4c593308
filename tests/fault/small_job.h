// SPDX-License-Identifier: BSD-3-Clause
// A rank of a job of one group, one step object and one channel, through the
// public functions. Whoever fails has tally_last_error.
#ifndef FAULT_SMALL_JOB_H
#define FAULT_SMALL_JOB_H

#include <tally/tally.h>

struct small_job {
    tally_t *tally;
    tally_group_t *group;
    tally_step_t *step;
    int32_t rank, ranks;
};

// The world's group.
tally_status_t small_job_open(struct small_job *job);
// A group, NULL for the world's, in the place of one that was left.
tally_status_t small_job_enter(struct small_job *job,
                               const tally_group_params_t *params);
tally_status_t small_job_leave(struct small_job *job);
// One epoch, in which the rank counts so many tokens, at most 64.
tally_status_t small_job_step(struct small_job *job, int64_t tokens);
// Leaves the group, too.
tally_status_t small_job_close(struct small_job *job);

#endif
