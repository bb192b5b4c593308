// SPDX-License-Identifier: BSD-3-Clause
// A libnccl.so.2 beside the double of libcuda, for ranks that are processes of
// this host: a reduction is a host function in the stream, which adds up in
// memory that all share. Only what Tally and a trainer of the tests call.
// Whoever is aborted hands on whatever is there, so that others may take it for
// a result; with NCCL_DOUBLE_ABORT=quiet nothing, so that others wait until
// they are aborted, too. NCCL does both.
#pragma GCC visibility push(default)
#include <nccl.h>
#pragma GCC visibility pop
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device/cuda/driver.h"

#define RANKS_MAX 8
#define LANES_MAX 528
#define NO_TURN UINT64_MAX

// Shared, of one identity. Who has arrived at reduction n + 1 has read n.
struct world {
    atomic_int joined;
    _Atomic uint64_t arrived[RANKS_MAX]; // so many reductions
    atomic_bool aborted[RANKS_MAX];
    int64_t lanes[2][RANKS_MAX][LANES_MAX];
};

struct reduction {
    struct reduction *before;
    struct ncclComm *comm;
    int64_t *lanes;
    size_t count;
    ncclRedOp_t operation;
    uint64_t turn; // NO_TURN: captured, so it has one at each replay
};

struct ncclComm {
    struct world *world; // as its first word: it can be read
    struct ncclComm *before;
    char name[32];
    int rank;
    int ranks;
    uint64_t enqueued; // turns handed out
    _Atomic uint64_t turn;
    pthread_mutex_t lock; // of a reduction that runs
    struct reduction *last;
};

static struct {
    CUresult (*cuStreamIsCapturing)(CUstream stream, int *status);
    CUresult (*cuLaunchHostFunc)(CUstream stream, CUhostFn run, void *argument);
} cuda;
static atomic_uint identities;
static struct ncclComm *last; // they stay: a graph may hold them

static void find_cuda(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    const struct {
        const char *name;
        void *into;
    } symbols[] = {{"cuStreamIsCapturing", &cuda.cuStreamIsCapturing},
                   {"cuLaunchHostFunc", &cuda.cuLaunchHostFunc}};

    for (int i = 0; i < 2; i++) {
        void *symbol = library != NULL ? dlsym(library, symbols[i].name) : NULL;
        if (symbol == NULL)
            abort();
        memcpy(symbols[i].into, &symbol, sizeof(symbol));
    }
}

ncclResult_t ncclGetVersion(int *version)
{
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    return result == ncclSuccess ? "no error" : "some error";
}

const char *ncclGetLastError(ncclComm_t comm)
{
    (void)comm;
    return "said by the double";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    memset(id, 0, sizeof(*id));
    snprintf(id->internal, sizeof(id->internal), "/tally-nccl-%d-%u",
             (int)getpid(), atomic_fetch_add(&identities, 1));
    return ncclSuccess;
}

static struct world *map(const char *name)
{
    int file = shm_open(name, O_RDWR | O_CREAT, 0600);

    if (file < 0 || ftruncate(file, sizeof(struct world)) != 0)
        abort();
    void *memory = mmap(NULL, sizeof(struct world), PROT_READ | PROT_WRITE,
                        MAP_SHARED, file, 0);
    close(file);
    if (memory == MAP_FAILED)
        abort();
    return memory;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int ranks, ncclUniqueId id,
                                    int rank, ncclConfig_t *config)
{
    struct ncclComm *comm = calloc(1, sizeof(*comm));

    (void)config;
    if (comm == NULL || ranks > RANKS_MAX)
        abort();
    find_cuda();
    snprintf(comm->name, sizeof(comm->name), "%.31s", id.internal);
    comm->world = map(comm->name);
    comm->rank = rank;
    comm->ranks = ranks;
    pthread_mutex_init(&comm->lock, NULL);
    comm->before = last;
    last = comm;
    if (atomic_fetch_add(&comm->world->joined, 1) == ranks - 1)
        shm_unlink(comm->name);
    *out = comm;
    return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error)
{
    *error = atomic_load(&comm->world->joined) < comm->ranks ? ncclInProgress
                                                             : ncclSuccess;
    return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t *out, int ranks, ncclUniqueId id,
                              int rank)
{
    ncclResult_t state = ncclInProgress;

    ncclCommInitRankConfig(out, ranks, id, rank, NULL);
    while (state == ncclInProgress) {
        sched_yield();
        ncclCommGetAsyncError(*out, &state);
    }
    return state;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int *count)
{
    *count = comm->ranks;
    return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank)
{
    *rank = comm->rank;
    return ncclSuccess;
}

static bool is_quiet(void)
{
    const char *text = getenv("NCCL_DOUBLE_ABORT");

    return text != NULL && strcmp(text, "quiet") == 0;
}

static bool is_aborted(struct ncclComm *comm)
{
    if (is_quiet())
        return atomic_load(&comm->world->aborted[comm->rank]);
    for (int i = 0; i < comm->ranks; i++)
        if (atomic_load(&comm->world->aborted[i]))
            return true;
    return false;
}

// Until all have arrived, or any is aborted.
static void meet(struct ncclComm *comm, uint64_t number)
{
    struct world *world = comm->world;

    atomic_store(&world->arrived[comm->rank], number);
    for (int i = 0; i < comm->ranks; i++)
        while (atomic_load(&world->arrived[i]) < number && !is_aborted(comm))
            usleep(50);
}

static void add_up(const struct reduction *reduction, uint64_t number)
{
    struct ncclComm *comm = reduction->comm;
    int64_t(*all)[LANES_MAX] = comm->world->lanes[number % 2];

    if (is_quiet() && is_aborted(comm))
        return;
    memcpy(all[comm->rank], reduction->lanes,
           reduction->count * sizeof(*reduction->lanes));
    meet(comm, number);
    for (size_t k = 0; k < reduction->count; k++) {
        uint64_t sum = 0;
        int64_t maximum = INT64_MIN;
        for (int i = 0; i < comm->ranks; i++) {
            sum += (uint64_t)all[i][k];
            maximum = all[i][k] > maximum ? all[i][k] : maximum;
        }
        reduction->lanes[k] =
            reduction->operation == ncclMax ? maximum : (int64_t)sum;
    }
}

// Those of a communicator run in the order of the calls, on whatever stream.
static void run(void *argument)
{
    const struct reduction *reduction = argument;
    struct ncclComm *comm = reduction->comm;
    bool has_turn = reduction->turn != NO_TURN;

    while (has_turn && atomic_load(&comm->turn) != reduction->turn)
        usleep(50);
    pthread_mutex_lock(&comm->lock);
    add_up(reduction, atomic_load(&comm->world->arrived[comm->rank]) + 1);
    pthread_mutex_unlock(&comm->lock);
    if (has_turn)
        atomic_store(&comm->turn, reduction->turn + 1);
}

ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count,
                           ncclDataType_t type, ncclRedOp_t operation,
                           ncclComm_t comm, cudaStream_t stream)
{
    struct reduction *reduction = calloc(1, sizeof(*reduction));
    int capturing = CU_STREAM_CAPTURE_STATUS_NONE;

    if (reduction == NULL || type != ncclInt64 || send != receive ||
        count > LANES_MAX)
        return ncclInvalidArgument;
    cuda.cuStreamIsCapturing((CUstream)(void *)stream, &capturing);
    *reduction = (struct reduction){
        .before = comm->last,
        .comm = comm,
        .lanes = receive,
        .count = count,
        .operation = operation,
        .turn = capturing != CU_STREAM_CAPTURE_STATUS_NONE ? NO_TURN
                                                           : comm->enqueued++,
    };
    comm->last = reduction;
    return cuda.cuLaunchHostFunc((CUstream)(void *)stream, run, reduction) ==
                   CUDA_SUCCESS
               ? ncclSuccess
               : ncclUnhandledCudaError;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    (void)comm;
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    (void)comm;
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    atomic_store(&comm->world->aborted[comm->rank], true);
    return ncclSuccess;
}
