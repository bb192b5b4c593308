// SPDX-License-Identifier: BSD-3-Clause
// The watchdog of reductions that a device does by itself: of a communicator
// of stream collectives and the steps that use it. What is under way is read
// from words that kernels write; the communicator, the health of its ranks and
// the deadline are looked at in intervals, by whoever moves the progress
// engine. It enqueues nothing on a stream.
#ifndef ORDER_WATCHDOG_H
#define ORDER_WATCHDOG_H

#include <stdint.h>
#include <tally/transport.h>

#include "collective/watch.h"
#include "core/health.h"
#include "core/log.h"
#include "order/queue.h"

struct kernel_mirror; // kernels/slot.h

// One step object at the watchdog. Zeroed by the owner, but for the mirror.
struct watchdog_step {
    struct watchdog_step *next;
    struct kernel_mirror *mirror; // by atomics alone
    uint64_t seen;                // the reduction whose deadline runs; 0: none
    int64_t deadline_us;          // of `seen`
};

struct watchdog_params {
    const tally_transport_ops_t *ops;
    tally_transport_t *transport;
    tally_stream_group_t *group;
    struct watch *watch; // NULL: none
    struct health *health;
    struct queue_fate *fate; // of the group
    const struct core_log *log;
    const char *group_key;
    const int32_t *ranks; // world ranks of the group
    int32_t rank_count;
    int64_t timeout_us;
};

struct watchdog {
    struct watchdog *next; // of the progress engine
    struct watchdog_params params;
    struct watchdog_step *steps;
    int64_t watched_us;       // when the watch was last looked at
    uint32_t health_version;  // seen
    int32_t suspect;          // the rank of the group that was first to go, -1
    int64_t suspect_since_us; // as it was reported
    tally_status_t broken;    // what the communicator said; OK: nothing
    int64_t broken_since_us;
    char broken_sentence[256];
};

// Borrows what the params point to. The progress lock guards all of it.
void watchdog_init(struct watchdog *watchdog,
                   const struct watchdog_params *params);

void watchdog_add_step(struct watchdog *watchdog, struct watchdog_step *step);
void watchdog_remove_step(struct watchdog *watchdog,
                          struct watchdog_step *step);

// The look. Ends the group (fate, `dead` of all mirrors, then abort) if a
// reduction is under way and a rank of the group is gone, the communicator
// fails, or the deadline passes; or if the group has ended otherwise.
void watchdog_check(struct watchdog *watchdog, int64_t now_us);

// A reduction has come out wrong: as if the communicator had said so. Who is
// gone, if a rank is, is known soon.
void watchdog_doubt(struct watchdog *watchdog, tally_status_t status,
                    const char *sentence, int64_t now_us);

// Ends the group with what the communicator said as work was given to it.
void watchdog_fail(struct watchdog *watchdog, tally_status_t status,
                   const char *sentence);

#endif
