// SPDX-License-Identifier: BSD-3-Clause
// One rank of a test of collectives on a CUDA stream, over the real NCCL and
// driver: sums to the bit, in and out of a graph, and how a reduction ends. The
// words that a step's kernels write are written by the stream.
//     stream driver|sums|killed|late|killed_graph|adopted|adopted_killed
#include <dlfcn.h>
#include <nccl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/error.h"
#include "core/stream.h"
#include "kernels/slot.h"

#define LANES_MAX 130 // 16 records, 2 maxima
#define ROUNDS 200
#define REPLAYS 1000

#define EXPECT(condition)                                                      \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, \
                    core_error_text());                                        \
            _exit(1);                                                          \
        }                                                                      \
    } while (0)

// The driver, of which only this is needed.
#define DRIVER(X)                                                              \
    X(cuInit, (unsigned))                                                      \
    X(cuDeviceGetCount, (int *))                                               \
    X(cuDeviceGet, (int *, int))                                               \
    X(cuDevicePrimaryCtxRetain, (void **, int))                                \
    X(cuCtxSetCurrent, (void *))                                               \
    X(cuMemAlloc_v2, (void **, size_t))                                        \
    X(cuMemHostAlloc, (void **, size_t, unsigned))                             \
    X(cuMemcpyHtoDAsync_v2, (void *, const void *, size_t, void *))            \
    X(cuMemcpyDtoHAsync_v2, (void *, void *, size_t, void *))                  \
    X(cuStreamCreate, (void **, unsigned))                                     \
    X(cuStreamSynchronize, (void *))                                           \
    X(cuStreamWriteValue64_v2, (void *, void *, uint64_t, unsigned))           \
    X(cuStreamBeginCapture_v2, (void *, int))                                  \
    X(cuStreamEndCapture, (void *, void **))                                   \
    X(cuGraphInstantiateWithFlags, (void **, void *, uint64_t))                \
    X(cuGraphExecDestroy, (void *))                                            \
    X(cuGraphDestroy, (void *))                                                \
    X(cuGraphLaunch, (void *, void *))
#define DECLARE(name, arguments) static int(*name) arguments;
DRIVER(DECLARE)

struct bench {
    tally_t *tally;
    tally_group_t *group;
    int32_t rank;
    int32_t ranks;
    void *stream;
    int64_t *lanes;  // of the device
    int64_t *pinned; // of the host
    struct kernel_mirror *mirror;
    struct watchdog_step step;
    uint64_t random;
};

static void driver_load(void)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);

    if (driver == NULL) {
        printf("skipped: %s\n", dlerror());
        exit(77);
    }
#define FIND(name, arguments) *(void **)&name = dlsym(driver, #name);
    DRIVER(FIND)
}

// As splitmix64 does: the same numbers at all ranks.
static uint64_t next(struct bench *bench)
{
    uint64_t z = bench->random += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void device_take(struct bench *bench)
{
    int count = 0;
    int device;
    void *context;
    void *memory;

    EXPECT(cuInit(0) == 0 && cuDeviceGetCount(&count) == 0 && count > 0);
    EXPECT(cuDeviceGet(&device, bench->rank % count) == 0);
    EXPECT(cuDevicePrimaryCtxRetain(&context, device) == 0);
    EXPECT(cuCtxSetCurrent(context) == 0);
    EXPECT(cuStreamCreate(&bench->stream, 1) == 0);
    EXPECT(cuMemAlloc_v2((void **)&bench->lanes, LANES_MAX * 8) == 0);
    EXPECT(cuMemHostAlloc((void **)&bench->pinned, LANES_MAX * 8, 1) == 0);
    EXPECT(cuMemHostAlloc(&memory, sizeof(*bench->mirror), 3) == 0);
    memset(memory, 0, sizeof(*bench->mirror));
    bench->mirror = memory;
    bench->step.mirror = memory;
}

static ncclComm_t trainers_communicator(struct bench *bench)
{
    ncclUniqueId id;
    ncclUniqueId *all = calloc((size_t)bench->ranks, sizeof(*all));
    tally_group_t *group;
    ncclComm_t comm = NULL;

    EXPECT(tally_group_create(bench->tally, NULL, &group) == TALLY_OK);
    EXPECT(ncclGetUniqueId(&id) == ncclSuccess);
    EXPECT(exchange_allgather(group->exchange, &group->members, &id, all,
                              sizeof(id)) == TALLY_OK);
    EXPECT(ncclCommInitRank(&comm, bench->ranks, all[0], bench->rank) ==
           ncclSuccess);
    EXPECT(tally_group_free(group) == TALLY_OK);
    free(all);
    return comm;
}

static void bench_open(struct bench *bench, ncclComm_t *comm)
{
    tally_group_params_t params = TALLY_INIT(tally_group_params_t);
    void *adopted = NULL;

    *bench = (struct bench){.random = 1};
    EXPECT(tally_open(NULL, &bench->tally) == TALLY_OK);
    EXPECT(tally_rank(bench->tally, &bench->rank, &bench->ranks) == TALLY_OK);
    device_take(bench);
    if (comm != NULL)
        adopted = *comm = trainers_communicator(bench);
    params.key = "stream";
    EXPECT(tally_group_create(bench->tally, &params, &bench->group) ==
           TALLY_OK);
    bench->group->nccl_comm = adopted;
    int64_t begin_us = clock_now_us();
    EXPECT(stream_join(bench->group) == TALLY_OK);
    printf("rank %d: joined in %lld ms\n", (int)bench->rank,
           (long long)(clock_now_us() - begin_us) / 1000);
    stream_add(bench->group, &bench->step);
}

static void bench_close(struct bench *bench)
{
    stream_remove(bench->group, &bench->step);
    EXPECT(tally_group_free(bench->group) == TALLY_OK);
    EXPECT(tally_close(bench->tally) == TALLY_OK);
}

static void write_word(const struct bench *bench, uint64_t *word,
                       uint64_t value)
{
    EXPECT(cuStreamWriteValue64_v2(bench->stream, (void *)word, value, 0) == 0);
}

// Values of one rank, and what all give together.
static void fill(struct bench *bench, size_t sums, size_t maxima,
                 int64_t *expected)
{
    for (size_t k = 0; k < sums + maxima; k++) {
        expected[k] = k < sums ? 0 : INT64_MIN;
        for (int32_t rank = 0; rank < bench->ranks; rank++) {
            int64_t value = (int64_t)next(bench) >> 8;
            if (rank == bench->rank)
                bench->pinned[k] = value;
            if (k < sums)
                expected[k] += value;
            else if (value > expected[k])
                expected[k] = value;
        }
    }
}

static void enqueue(struct bench *bench, size_t sums, size_t maxima)
{
    size_t bytes = (sums + maxima) * sizeof(int64_t);

    EXPECT(cuMemcpyHtoDAsync_v2(bench->lanes, bench->pinned, bytes,
                                bench->stream) == 0);
    EXPECT(stream_reduce(bench->group, bench->lanes, sums, maxima,
                         bench->stream) == TALLY_OK);
    EXPECT(cuMemcpyDtoHAsync_v2(bench->pinned, bench->lanes, bytes,
                                bench->stream) == 0);
}

static void sums_on_the_stream(struct bench *bench)
{
    int64_t expected[LANES_MAX];

    for (uint64_t round = 1; round <= ROUNDS; round++) {
        size_t sums = 8 * (1 + round % 16);
        size_t maxima = round % 3;
        fill(bench, sums, maxima, expected);
        write_word(bench, &bench->mirror->started, round);
        enqueue(bench, sums, maxima);
        write_word(bench, &bench->mirror->finished, round);
        EXPECT(cuStreamSynchronize(bench->stream) == 0);
        EXPECT(memcmp(bench->pinned, expected, (sums + maxima) * 8) == 0);
    }
    printf("rank %d: %d reductions on the stream, all to the bit\n",
           (int)bench->rank, ROUNDS);
}

static void sums_in_a_graph(struct bench *bench)
{
    int64_t expected[LANES_MAX];
    void *graph;
    void *executable;

    EXPECT(cuStreamBeginCapture_v2(bench->stream, 1) == 0); // of this thread
    enqueue(bench, 8, 1);
    EXPECT(cuStreamEndCapture(bench->stream, &graph) == 0);
    EXPECT(cuGraphInstantiateWithFlags(&executable, graph, 0) == 0);
    for (int replay = 0; replay < ROUNDS; replay++) {
        fill(bench, 8, 1, expected);
        EXPECT(cuGraphLaunch(executable, bench->stream) == 0);
        EXPECT(cuStreamSynchronize(bench->stream) == 0);
        EXPECT(memcmp(bench->pinned, expected, 72) == 0);
    }
    int64_t begin_us = clock_now_us();
    for (int replay = 0; replay < REPLAYS; replay++)
        EXPECT(cuGraphLaunch(executable, bench->stream) == 0);
    EXPECT(cuStreamSynchronize(bench->stream) == 0);
    printf("rank %d: %d replays of a graph, all to the bit; %.1f us each with "
           "both copies and a maximum\n",
           (int)bench->rank, ROUNDS,
           (double)(clock_now_us() - begin_us) / REPLAYS);
    EXPECT(cuGraphExecDestroy(executable) == 0 && cuGraphDestroy(graph) == 0);
    begin_us = clock_now_us();
    for (int i = 0; i < REPLAYS; i++)
        EXPECT(stream_reduce(bench->group, bench->lanes, 8, 0, bench->stream) ==
               TALLY_OK);
    int64_t enqueued_us = clock_now_us();
    EXPECT(cuStreamSynchronize(bench->stream) == 0);
    printf("rank %d: one record on the stream: %.1f us each, %.1f us of the "
           "host\n",
           (int)bench->rank, (double)(clock_now_us() - begin_us) / REPLAYS,
           (double)(enqueued_us - begin_us) / REPLAYS);
}

// NCCL does not end a communicator that a graph holds.
static void keep_a_graph(struct bench *bench)
{
    void *graph;
    void *executable;

    EXPECT(cuStreamBeginCapture_v2(bench->stream, 1) == 0);
    enqueue(bench, 8, 0);
    EXPECT(cuStreamEndCapture(bench->stream, &graph) == 0);
    EXPECT(cuGraphInstantiateWithFlags(&executable, graph, 0) == 0);
}

// A reduction that the other rank does not come to.
static void wait_for_the_end(struct bench *bench, tally_status_t status,
                             const char *sentence)
{
    const struct timespec nap = {0, 1000000};

    write_word(bench, &bench->mirror->started, ROUNDS + 1);
    EXPECT(stream_reduce(bench->group, bench->lanes, 8, 0, bench->stream) ==
           TALLY_OK);
    int64_t begin_us = clock_now_us();
    while (__atomic_load_n(&bench->mirror->dead, __ATOMIC_SEQ_CST) == 0 &&
           clock_now_us() < begin_us + 30000000)
        nanosleep(&nap, NULL);
    EXPECT(stream_reduce(bench->group, bench->lanes, 8, 0, bench->stream) ==
           status);
    EXPECT(strstr(core_error_text(), sentence) != NULL);
    printf("rank %d: ended after %lld ms: %s\n", (int)bench->rank,
           (long long)(clock_now_us() - begin_us) / 1000, core_error_text());
}

static void synchronise(struct bench *bench)
{
    int64_t begin_us = clock_now_us();

    EXPECT(cuStreamSynchronize(bench->stream) == 0);
    printf("rank %d: the stream is free %lld ms later\n", (int)bench->rank,
           (long long)(clock_now_us() - begin_us) / 1000);
}

int main(int count, char **arguments)
{
    const char *scene = count > 1 ? arguments[1] : "sums";
    bool adopts = strncmp(scene, "adopted", 7) == 0;
    ncclComm_t comm = NULL;
    struct bench bench;

    setvbuf(stdout, NULL, _IOLBF, 0);
    driver_load();
    if (strcmp(scene, "driver") == 0) // whether there is one
        return 0;
    bench_open(&bench, adopts ? &comm : NULL);
    sums_on_the_stream(&bench);
    if (strcmp(scene, "sums") == 0 || strcmp(scene, "adopted") == 0) {
        sums_in_a_graph(&bench);
        bench_close(&bench);
        // Tally is gone; the trainer's communicator is as good as ever.
        if (adopts)
            EXPECT(ncclAllReduce(bench.lanes, bench.lanes, 8, ncclInt64,
                                 ncclSum, comm, bench.stream) == ncclSuccess &&
                   cuStreamSynchronize(bench.stream) == 0 &&
                   ncclCommDestroy(comm) == ncclSuccess);
        printf("rank %d: closed\n", (int)bench.rank);
        return 0;
    }
    if (strcmp(scene, "killed_graph") == 0)
        keep_a_graph(&bench);
    if (bench.rank == 1 && strcmp(scene, "late") != 0)
        kill(getpid(), SIGKILL);
    if (bench.rank == 1) {
        sleep(8);
        _exit(0);
    }
    if (strcmp(scene, "late") == 0)
        wait_for_the_end(&bench, TALLY_ERR_TIMEOUT, "timed out after");
    else
        wait_for_the_end(&bench, TALLY_ERR_PEER, "rank 1 ");
    if (adopts)
        EXPECT(ncclCommAbort(comm) == ncclSuccess);
    synchronise(&bench);
    bench_close(&bench);
    printf("rank %d: closed\n", (int)bench.rank);
    return 0;
}
