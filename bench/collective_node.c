// SPDX-License-Identifier: BSD-3-Clause
// How long an all-reduce through shared memory takes: n processes, K records.
// It measures the object alone, without step, progress thread or kernels.
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "collective/allreduce.h"
#include "core/error.h"
#include "harness/callback_exchange.h"
#include "harness/forked.h"
#include "numeric/record.h"

#define WARM_UP 2000

struct bench {
    uint32_t records;
    int32_t iterations;
    bool spins; // else yields: ranks outnumber cores
};

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static void reduce_once(struct allreduce *allreduce, const int64_t *lanes,
                        bool spins)
{
    tally_status_t status;

    allreduce_start(allreduce, lanes);
    while ((status = allreduce_progress(allreduce)) == TALLY_NOT_YET) {
        if (spins)
            pause_briefly();
        else
            sched_yield();
    }
    if (status != TALLY_OK) {
        fprintf(stderr, "%s\n", core_error_text());
        exit(EXIT_FAILURE);
    }
}

static int compare(const void *a, const void *b)
{
    const int64_t *x = a;
    const int64_t *y = b;

    return (*x > *y) - (*x < *y);
}

static void report(const struct bench *bench, int32_t size, int64_t *times_ns,
                   int64_t mean_ns)
{
    size_t count = (size_t)bench->iterations;

    qsort(times_ns, count, sizeof(*times_ns), compare);
    printf("%2d  %2u  %-5s  %9.3f  %9.3f  %9.3f\n", (int)size, bench->records,
           bench->spins ? "spin" : "yield", (double)times_ns[count / 2] / 1e3,
           (double)times_ns[count * 99 / 100] / 1e3, (double)mean_ns / 1e3);
}

// Times each reduction, and then a run of them without looking at the clock,
// which costs as much as a fifth of one.
static void measure(struct allreduce *allreduce, const struct bench *bench,
                    int32_t rank, int32_t size)
{
    int64_t *lanes =
        calloc((size_t)bench->records * NUMERIC_LANES, sizeof(*lanes));
    int64_t *times_ns = calloc((size_t)bench->iterations, sizeof(*times_ns));

    if (lanes == NULL || times_ns == NULL)
        abort();
    for (int32_t i = 0; i < WARM_UP; i++)
        reduce_once(allreduce, lanes, bench->spins);
    int64_t last_ns = now_ns();
    for (int32_t i = 0; i < bench->iterations; i++) {
        reduce_once(allreduce, lanes, bench->spins);
        int64_t end_ns = now_ns();
        times_ns[i] = end_ns - last_ns;
        last_ns = end_ns;
    }
    for (int32_t i = 0; i < bench->iterations; i++)
        reduce_once(allreduce, lanes, bench->spins);
    if (rank == 0)
        report(bench, size, times_ns, (now_ns() - last_ns) / bench->iterations);
    free(times_ns);
    free(lanes);
}

static int bench_rank(struct forked_member *member)
{
    const struct bench *bench = member->argument;
    const struct topology_params where = {.node_shm = true, .node_name = ""};
    struct callback_exchange exchange;
    struct topology *topology = NULL;
    struct allreduce *allreduce = NULL;

    callback_exchange_open(&exchange, forked_allgather, member, member->rank,
                           member->size, 0);
    tally_status_t status =
        topology_detect(&exchange.base, &exchange.group, &where, &topology);
    if (status != TALLY_OK)
        goto fail;
    struct allreduce_params params = {
        .topology = topology,
        .exchange = &exchange.base,
        .group = &exchange.group,
        .records = bench->records,
    };
    status = allreduce_create(&params, &allreduce);
    if (status != TALLY_OK)
        goto fail;
    measure(allreduce, bench, member->rank, member->size);
    fflush(stdout);
    allreduce_free(allreduce);
    topology_free(topology);
    callback_exchange_close(&exchange);
    return EXIT_SUCCESS;
fail:
    fprintf(stderr, "%s\n", core_error_text());
    return EXIT_FAILURE;
}

int main(void)
{
    static const int32_t sizes[] = {2, 4, 8};
    static const uint32_t records[] = {1, 4, 64};
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int32_t failed = 0;

    printf(" n   K  wait      p50 us     p99 us    mean us\n");
    fflush(stdout);
    for (size_t i = 0; i < 3; i++) {
        for (size_t j = 0; j < 3; j++) {
            struct bench bench = {
                .records = records[j],
                .iterations = sizes[i] > cores ? 5000 : 50000,
                .spins = sizes[i] <= cores,
            };

            failed += forked_run(sizes[i], bench_rank, &bench, 0);
        }
    }
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
