// SPDX-License-Identifier: BSD-3-Clause
// The inside of the progress engine: what those who move in line (progress.c)
// and the thread (thread.c) share.
#ifndef ORDER_ENGINE_H
#define ORDER_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/park.h"
#include "order/progress.h"
#include "order/sleeper.h"

#define ENGINE_TRANSPORTS_MAX 8

// A wait this long is not worth a processor any more: to be woken costs about a
// hundredth of it.
#define ENGINE_SLEEP_AFTER_US 5000

struct progress {
    pthread_mutex_t lock;
    pthread_cond_t done; // a ticket of the list below is complete
    struct wait *waits;  // that sleep until then
    struct progress_params params;
    struct queue *queues;
    struct watchdog *watchdogs;
    struct {
        const tally_transport_ops_t *ops;
        tally_transport_t *transport;
    } transports[ENGINE_TRANSPORTS_MAX];
    int transport_count;
    uint64_t posted;        // of all queues
    uint64_t moves_in_line; // by who waits or polls
    struct park_thread thread;
    atomic_bool stop;
    struct sleeper *sleeper; // the thread's
    atomic_int spin_us;      // what a waiting thread spins now, see spin_learn
    atomic_uint trials;      // waits counted, for spin_learn
};

// A wait that leaves it to the thread.
struct wait {
    struct wait *next;
    struct queue *queue;
    uint64_t ticket;
};

// As progress_lock, where that needs no waiting.
bool engine_try_lock(struct progress *progress);

// Between two looks of a thread that has nothing else to do.
void engine_relax(void);

// All with the lock held.

// One move of everything. Returns whether a transport had something.
bool engine_move(struct progress *progress);
// The slow look.
void engine_check(struct progress *progress, int64_t now_us);
// By whoever has moved or checked.
void engine_tell_waits(struct progress *progress);

// The thread, from start to stop. Its argument is the struct progress.
void *engine_thread(void *argument);

#endif
