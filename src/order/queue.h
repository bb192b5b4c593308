// SPDX-License-Identifier: BSD-3-Clause
// The reductions of one step object, first in first out: what was posted, what
// is under way, what came of it. It is moved by the progress engine, under
// whose lock all of it lives; it never blocks and reads no clock.
#ifndef ORDER_QUEUE_H
#define ORDER_QUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <tally/tally.h>

#include "collective/allreduce.h"
#include "collective/watch.h"
#include "core/health.h"
#include "core/log.h"

// Two reductions an epoch, so results of the whole ring can be read.
#define QUEUE_SLOTS (2 * TALLY_EPOCH_RING)

// How a group ended: shared by its queues, set once, never unset. Written under
// the progress lock; that the group lives may be read without it.
struct queue_fate {
    _Atomic tally_status_t status; // TALLY_OK while it lives
    int32_t failed_rank;           // world rank, -1
    char sentence[256];
};

struct queue_slot {
    int64_t *lanes; // what was posted, then the result
    uint64_t epoch;
    tally_status_t status; // NOT_YET until complete
};

struct queue {
    struct queue *next; // of the progress engine
    struct allreduce *allreduce;
    struct watch *watch; // NULL: none
    struct health *health;
    struct queue_fate *fate;
    const struct core_log *log;
    const char *group_key;
    const int32_t *ranks; // world ranks of the group
    int32_t rank_count;
    size_t lane_count;
    int64_t timeout_us;

    uint64_t posted; // tickets: 1, 2, ...
    uint64_t completed;
    bool active;             // completed + 1 is under way
    int64_t deadline_us;     // of the one under way; 0: not set yet
    int64_t watched_us;      // when the watch was last looked at
    uint32_t health_version; // seen
    int32_t suspect;         // a rank of the group that is gone, -1: none
    int64_t suspect_since_us;
    int64_t died_us; // when the first death (not a leaving) was reported; 0
    bool broken;     // a transport gave up; who is gone is not known yet
    int64_t broken_since_us; // 0: not set yet
    char broken_sentence[256];
    struct queue_slot slots[QUEUE_SLOTS];
    int64_t *lane_memory;
    // Told of every ticket that is complete, under the lock; NULL: nobody.
    void (*completed_hook)(void *context, uint64_t ticket,
                           const struct queue_slot *slot);
    void *completed_context;

    // What is posted by a stream, and answered: called before and after moves.
    void (*feed)(void *context); // NULL: nothing
    void *feed_context;
    bool awaited; // the stream stands still until it is answered
};

// Borrows all but the allreduce, which it takes.
struct queue_params {
    struct allreduce *allreduce; // NULL: given before anything is posted
    struct watch *watch;
    struct health *health;
    struct queue_fate *fate;
    const struct core_log *log;
    const char *group_key;
    const int32_t *ranks;
    int32_t rank_count;
    size_t lane_count; // 8 * records + max_lanes
    int64_t timeout_us;
};

tally_status_t queue_create(const struct queue_params *params,
                            struct queue **out);
void queue_free(struct queue *queue);

// Posts lanes (copied) and returns the ticket. At most QUEUE_SLOTS are pending.
uint64_t queue_post(struct queue *queue, const int64_t *lanes, uint64_t epoch);

// Where a stream reduces by itself: takes what has come of the next ticket, OK
// and the lanes, or how it failed. There is no all-reduce.
void queue_take(struct queue *queue, tally_status_t status,
                const int64_t *lanes, uint64_t epoch);

// The same, but nobody has looked in time: all tickets up to that one are
// OVERWRITTEN.
void queue_skip(struct queue *queue, uint64_t ticket);

static inline bool queue_pending(const struct queue *queue)
{
    return queue->completed != queue->posted;
}

// Starts and moves what is next, without blocking.
void queue_advance(struct queue *queue);

// Before a sleep: see allreduce_arm. The queue is pending, and was advanced.
tally_status_t queue_arm(struct queue *queue, struct allreduce_source *out);

// The slow look: the deadline, and ranks that are gone.
void queue_check(struct queue *queue, int64_t now_us);

// Nobody moves it any more: what is pending ends, and the group with it.
void queue_end(struct queue *queue, const char *why);

// Whether a ticket is complete, well or not.
static inline bool queue_done(const struct queue *queue, uint64_t ticket)
{
    return queue->completed >= ticket;
}

// What was published for a ticket has no waiter any more: the ticket and the
// group end with TIMEOUT.
void queue_abandon(struct queue *queue, uint64_t ticket, const char *why);

// The result of a ticket: OK and the lanes, an error, NOT_YET, or OVERWRITTEN.
tally_status_t queue_result(const struct queue *queue, uint64_t ticket,
                            int64_t *lanes);

#endif
