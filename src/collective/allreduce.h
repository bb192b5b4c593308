// SPDX-License-Identifier: BSD-3-Clause
// The all-reduce of one step object: a node stage in shared memory, then
// leaders over tagged messages, then the node reads the result. Reductions are
// done one after the other, each a state machine that `progress` moves without
// blocking. It keeps no deadline: whoever drives it does.
#ifndef COLLECTIVE_ALLREDUCE_H
#define COLLECTIVE_ALLREDUCE_H

#include <stdbool.h>

#include "collective/links.h"
#include "collective/schedule.h"
#include "collective/topology.h"

struct allreduce;

struct allreduce_params {
    const struct topology *topology; // borrowed until free
    struct links *links;             // borrowed until free; NULL if one node
    struct exchange *exchange;       // used by create only
    struct exchange_group *group;
    uint32_t records;   // K >= 1: 8 * K int64 sums (numeric/record.h)
    uint32_t max_lanes; // then so many int64 maxima
    uint32_t radix;     // of the leaders' stage, >= 2; 0: by the cost model
    // This rank's host has more leaders than processors. One such rank decides
    // for all: the cost model counts every message then.
    bool crowded;
    // NULL: by radix and crowded. A plan of other origin is the same at all
    // ranks, unchecked, and used by create only.
    const struct schedule_plan *plan;
    uint16_t tag_space; // tells apart the reductions on one transport; equal at
                        // all ranks of the group, and unique at each
};

// Collective over the group.
tally_status_t allreduce_create(const struct allreduce_params *params,
                                struct allreduce **out);

// Cancels what is pending. The buffers of receives that the transport still
// holds are handed to it (freed after its close).
void allreduce_free(struct allreduce *allreduce);

// Starts the next reduction of lanes[8 * records + max_lanes] (copied). The one
// before must be complete. Records must be folded, their eighth lane 0; a lane
// that should not matter is 0 in a sum and INT64_MIN in a maximum.
void allreduce_start(struct allreduce *allreduce, const int64_t *lanes);

// Moves it. OK: complete, and the result is there. NOT_YET. An error: the
// object is dead. The holder of the progress lock calls this, after the
// transport's progress.
tally_status_t allreduce_progress(struct allreduce *allreduce);

// What a reduction that is NOT_YET waits for.
struct allreduce_source {
    _Atomic uint32_t *word; // of the node; NULL: the transport (its wait_fd)
    uint32_t seen;          // what the word will not be any more (futex)
};

// Before a sleep until progress is worth calling again. NOT_YET: it is now.
// UNSUPPORTED: it has to be polled.
tally_status_t allreduce_arm(struct allreduce *allreduce,
                             struct allreduce_source *out);

// The result [8 * records + max_lanes], records folded, until the next start.
const int64_t *allreduce_result_borrow(const struct allreduce *allreduce);

// A rank of the group whose data is being waited for, -1 if not known.
int32_t allreduce_awaited(const struct allreduce *allreduce);

#endif
