// SPDX-License-Identifier: BSD-3-Clause
// See ending.h. What the thread runs stays loaded: this library is linked so
// that it is never taken out of the process.
#include "transport/nccl/ending.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define NAP_US ((int64_t)100)

struct ending {
    ncclResult_t (*end)(ncclComm_t);
    ncclComm_t comm;
    atomic_bool done;
    atomic_int holders; // the thread and who began it; the last frees
};

static void let_go(struct ending *ending)
{
    if (atomic_fetch_sub(&ending->holders, 1) == 1)
        free(ending);
}

static void *run(void *argument)
{
    struct ending *ending = argument;

    ending->end(ending->comm);
    atomic_store(&ending->done, true);
    let_go(ending);
    return NULL;
}

// Signals are the host program's: its own threads take them.
static bool start(struct ending *ending)
{
    sigset_t all, before;
    pthread_t thread;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = pthread_create(&thread, NULL, run, ending) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (started)
        pthread_detach(thread);
    return started;
}

struct ending *ending_begin(ncclResult_t (*end)(ncclComm_t), ncclComm_t comm)
{
    struct ending *ending = malloc(sizeof(*ending));

    if (ending != NULL) {
        ending->end = end;
        ending->comm = comm;
        atomic_init(&ending->done, false);
        atomic_init(&ending->holders, 2);
        if (start(ending))
            return ending;
        free(ending);
    }
    end(comm);
    return NULL;
}

bool ending_wait(struct ending *ending, int64_t timeout_us)
{
    const struct timespec nap = {0, NAP_US * 1000};

    for (int64_t us = 0; us < timeout_us && !atomic_load(&ending->done);
         us += NAP_US)
        nanosleep(&nap, NULL);
    bool done = atomic_load(&ending->done);
    let_go(ending);
    return done;
}
