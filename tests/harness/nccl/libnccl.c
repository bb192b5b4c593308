// SPDX-License-Identifier: BSD-3-Clause
// libnccl.so.2 of the tests: see made_up.h. Only what the backend calls.
// What it declares is what this library exports.
#pragma GCC visibility push(default)
#include <nccl.h>
#pragma GCC visibility pop
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "made_up.h"

#define EXPORT __attribute__((visibility("default")))
#define WORLDS_MAX 16
#define RANKS_MAX 16
#define PENDING_MAX 64

EXPORT struct made_up_nccl made_up_nccl = {.version = NCCL_VERSION_CODE};

struct reduction {
    int64_t *lanes;
    size_t count;
    ncclRedOp_t operation;
    struct made_up_stream *stream;
};

struct ncclComm {
    struct world *world; // as its first word: it can be read
    int rank;
    int ranks;
    int delay; // answers "in progress" that are left
    bool ended;
    struct ncclComm *before;
    uint64_t posted; // reductions, of all so far
    struct reduction pending[PENDING_MAX];
};

// The communicators of one identity.
struct world {
    int ranks;
    int joined;
    uint64_t done;
    struct ncclComm *members[RANKS_MAX];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct world worlds[WORLDS_MAX];
static atomic_uint next_identity;
// Those that have ended, too: their memory stays, so a use after the end is
// seen.
static struct ncclComm *last;

ncclResult_t ncclGetVersion(int *version)
{
    *version = made_up_nccl.version;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    return result == ncclRemoteError ? "remote error" : "some error";
}

const char *ncclGetLastError(ncclComm_t comm)
{
    (void)comm;
    return "said by the tests";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    unsigned index = atomic_fetch_add(&next_identity, 1) % WORLDS_MAX;

    memset(id, 0, sizeof(*id));
    memcpy(id->internal, &index, sizeof(index));
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int ranks, ncclUniqueId id,
                                    int rank, ncclConfig_t *config)
{
    unsigned index;

    memcpy(&index, id.internal, sizeof(index));
    if (config->blocking != 0)
        atomic_fetch_add(&made_up_nccl.violations, 1);
    if (made_up_nccl.init_error != ncclSuccess)
        return (ncclResult_t)made_up_nccl.init_error;
    struct ncclComm *comm = calloc(1, sizeof(*comm));
    comm->world = &worlds[index];
    comm->rank = rank;
    comm->ranks = ranks;
    comm->delay = atomic_load(&made_up_nccl.init_delay);
    pthread_mutex_lock(&lock);
    comm->world->ranks = ranks;
    comm->world->members[rank] = comm;
    comm->world->joined++;
    comm->before = last;
    last = comm;
    pthread_mutex_unlock(&lock);
    atomic_fetch_add(&made_up_nccl.inits, 1);
    atomic_fetch_add(&made_up_nccl.open, 1);
    *out = comm;
    return ncclInProgress;
}

static bool is_ready(struct ncclComm *comm)
{
    if (atomic_load(&made_up_nccl.absent) ||
        comm->world->joined < comm->world->ranks)
        return false;
    return comm->delay-- <= 0;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error)
{
    pthread_mutex_lock(&lock);
    if (comm->ended)
        atomic_fetch_add(&made_up_nccl.violations, 1);
    *error = is_ready(comm) && !atomic_load(&made_up_nccl.never_taken)
                 ? (ncclResult_t)atomic_load(&made_up_nccl.async_error)
                 : ncclInProgress;
    pthread_mutex_unlock(&lock);
    return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int *count)
{
    if (comm->ranks == 0)
        return ncclInvalidArgument;
    *count = comm->ranks;
    return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank)
{
    *rank = comm->rank;
    return ncclSuccess;
}

// The lock is held, and all have enqueued theirs.
static void reduce(struct world *world)
{
    struct reduction *all[RANKS_MAX];

    for (int i = 0; i < world->ranks; i++)
        all[i] = &world->members[i]->pending[world->done % PENDING_MAX];
    for (size_t k = 0; k < all[0]->count; k++) {
        int64_t sum = atomic_load(&made_up_nccl.wrong);
        int64_t maximum = INT64_MIN;
        for (int i = 0; i < world->ranks; i++) {
            sum += all[i]->lanes[k];
            maximum = all[i]->lanes[k] > maximum ? all[i]->lanes[k] : maximum;
        }
        for (int i = 0; i < world->ranks; i++)
            all[i]->lanes[k] = all[i]->operation == ncclMax ? maximum : sum;
    }
    for (int i = 0; i < world->ranks; i++)
        atomic_fetch_sub(&all[i]->stream->pending, 1);
    world->done++;
}

static bool all_posted(const struct world *world)
{
    for (int i = 0; i < world->ranks; i++)
        if (world->members[i] == NULL ||
            world->members[i]->posted <= world->done)
            return false;
    return true;
}

ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count,
                           ncclDataType_t type, ncclRedOp_t operation,
                           ncclComm_t comm, cudaStream_t stream)
{
    int error = atomic_load(&made_up_nccl.reduce_error);

    if (type != ncclInt64 || send != receive || comm->ended)
        atomic_fetch_add(&made_up_nccl.violations, 1);
    if (error != ncclSuccess)
        return (ncclResult_t)error;
    pthread_mutex_lock(&lock);
    struct reduction *own = &comm->pending[comm->posted++ % PENDING_MAX];
    *own = (struct reduction){receive, count, operation,
                              (struct made_up_stream *)(void *)stream};
    atomic_fetch_add(&own->stream->pending, 1);
    if (!atomic_load(&made_up_nccl.stuck) && all_posted(comm->world))
        reduce(comm->world);
    pthread_mutex_unlock(&lock);
    atomic_fetch_add(&made_up_nccl.reductions, 1);
    return atomic_load(&made_up_nccl.in_progress) ||
                   atomic_load(&made_up_nccl.never_taken)
               ? ncclInProgress
               : ncclSuccess;
}

// What is under way ends, with what is in its lanes.
static void end(struct ncclComm *comm)
{
    struct world *world = comm->world;

    pthread_mutex_lock(&lock);
    for (uint64_t i = world->done; i < comm->posted; i++)
        atomic_fetch_sub(&comm->pending[i % PENDING_MAX].stream->pending, 1);
    if (comm->ended)
        atomic_fetch_add(&made_up_nccl.violations, 1);
    comm->ended = true;
    world->members[comm->rank] = NULL;
    pthread_mutex_unlock(&lock);
    atomic_fetch_sub(&made_up_nccl.open, 1);
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    (void)comm;
    atomic_fetch_add(&made_up_nccl.finalizes, 1);
    return ncclInProgress;
}

// While a graph holds a communicator, NCCL does not come back.
static void wait_for_graphs(void)
{
    const struct timespec nap = {0, 1000000};

    while (atomic_load(&made_up_nccl.graphs))
        nanosleep(&nap, NULL);
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    atomic_fetch_add(&made_up_nccl.destroys, 1);
    end(comm);
    wait_for_graphs();
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    atomic_fetch_add(&made_up_nccl.aborts, 1);
    end(comm);
    wait_for_graphs();
    return ncclSuccess;
}
