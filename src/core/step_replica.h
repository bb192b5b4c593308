// SPDX-License-Identifier: BSD-3-Clause
// A step object of a replica group: between its own reduction and its scale
// comes the decision among the replicas. The group's first rank is the
// coordinator. What is decided reaches the other ranks by a second reduction,
// to which it alone contributes; their votes on the gradient reach it that way
// too. Where step->replica is NULL, these do nothing.
#ifndef CORE_STEP_REPLICA_H
#define CORE_STEP_REPLICA_H

#include "core/objects.h"

// What this rank alone can fail at: memory, the queue, and at the coordinator
// the loop. `layout`: digest of what all replicas have in common. Errors: those
// of replica_open_all, MEMORY, UNSUPPORTED (a second step).
tally_status_t step_replica_prepare(tally_step_t *step, uint64_t layout);
// Once all ranks are prepared. Errors: those of allreduce_create.
tally_status_t step_replica_build(tally_step_t *step, uint16_t tag_space);
// While the step's queue is there.
void step_replica_free(tally_step_t *step);

// Whether an epoch may begin: none waits for tally_replica_ready or _apply.
tally_status_t step_replica_check_begin(const tally_step_t *step);

// Around the post of the reduction that is contributed.
void step_replica_before_post(tally_step_t *step);
void step_replica_after_post(tally_step_t *step);

// After the step's own reduction: waits for the decision. OK: step->lanes are
// the totals of all that are counted. Errors: REPLICA; those of the queue.
tally_status_t step_replica_settle(tally_step_t *step);

// Fills what a result says of the decision, and *counts with the totals of all
// that are counted. NOT_YET: it is not known. REPLICA: this one is not counted.
// Under the progress lock.
tally_status_t step_replica_result(const tally_step_t *step, uint64_t epoch,
                                   tally_result_t *result, int64_t *counts);

#endif
