// SPDX-License-Identifier: BSD-3-Clause
// The progress engine of a tally_t: whoever posts, waits or reads a result
// moves the reductions in line; a thread is there for when nobody calls. One
// lock is held by whoever moves, and guards every queue, transport and result.
#ifndef ORDER_PROGRESS_H
#define ORDER_PROGRESS_H

#include <stdbool.h>
#include <tally/transport.h>

#include "order/queue.h"
#include "order/watchdog.h"

struct progress;

struct progress_params {
    int64_t spin_us;     // before a waiting thread yields
    bool oversubscribed; // ranks outnumber processors: yield at once
    int64_t look_us;     // the thread sleeps at most so long; 0: 20 ms
};

tally_status_t progress_create(const struct progress_params *params,
                               struct progress **out);
// Ends the thread. Everything must be detached.
void progress_free(struct progress *progress);

// For set-up and the close of what the lock guards.
void progress_lock(struct progress *progress);
void progress_unlock(struct progress *progress);

// Starts the thread if it does not run yet.
tally_status_t progress_start(struct progress *progress);

// Begins to move a queue, which has its all-reduce.
void progress_attach(struct progress *progress, struct queue *queue);
void progress_detach(struct progress *progress, struct queue *queue);

// Begins to look at a communicator in intervals; progress_start is called
// before or after.
void progress_add_watchdog(struct progress *progress,
                           struct watchdog *watchdog);
void progress_drop_watchdog(struct progress *progress,
                            struct watchdog *watchdog);

// Begins to poll a transport. Polling ends with progress_drop_transport.
tally_status_t progress_add_transport(struct progress *progress,
                                      const tally_transport_ops_t *ops,
                                      tally_transport_t *transport);
void progress_drop_transport(struct progress *progress,
                             tally_transport_t *transport);

// Posts, and moves the queue, or everything if something was under way in it.
// Does not block beyond the lock.
uint64_t progress_post(struct progress *progress, struct queue *queue,
                       const int64_t *lanes, uint64_t epoch);

// Blocks until the ticket is complete; the queue's deadline bounds it.
tally_status_t progress_wait(struct progress *progress, struct queue *queue,
                             uint64_t ticket, int64_t *lanes);

// Moves once. Any thread.
void progress_poll(struct progress *progress);

#endif
