// SPDX-License-Identifier: BSD-3-Clause
// See gradient_sum.h. The segment has two sets of slots, used in turn, so one
// barrier a sum is enough: who writes to a set again has passed the barrier
// after it, and to that nobody comes before having read the set.
//
// Each rank holds a lock on its own byte of the segment's file; the kernel
// drops it when the process ends, however it ends, which is how the others
// notice.
#include "gradient_sum.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fail.h"

#define SETS 2
#define YIELDS 200 // before a waiting rank begins to nap
#define NAP_US 50
#define NAPS_A_LOOK 100 // naps between looks for dead ranks

struct segment {
    uint64_t digest;
    _Atomic uint64_t arrived;  // at all barriers so far, by all ranks
    _Atomic int32_t abandoned; // 1 + the rank that gave up, 0: none
    alignas(64) double values[];
};

struct gradient_sum {
    struct gradient_sum_params params;
    char path[256];
    int file;
    size_t bytes;
    struct segment *segment;
    uint64_t barriers; // passed
};

static double seconds_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

// A lock on one byte of the file: bytes [0, ranks) mean "alive", the byte after
// them "at set-up".
static struct flock lock_byte(short type, int32_t byte)
{
    struct flock lock = {
        .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    return lock;
}

static bool rank_is_alive(const struct gradient_sum *sum, int32_t rank)
{
    struct flock lock = lock_byte(F_WRLCK, rank);

    return fcntl(sum->file, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

// The lowest rank whose process has ended; -1: none.
static int32_t dead_rank(const struct gradient_sum *sum)
{
    for (int32_t rank = 0; rank < sum->params.ranks; rank++)
        if (rank != sum->params.rank && !rank_is_alive(sum, rank))
            return rank;
    return -1;
}

static bool all_arrived(const struct gradient_sum *sum)
{
    uint64_t all = (sum->barriers + 1) * (uint64_t)sum->params.ranks;

    return atomic_load(&sum->segment->arrived) >= all;
}

// Why a barrier that is not complete never will be. Before all have joined, a
// rank without its lock has not come yet.
static bool barrier_is_hopeless(const struct gradient_sum *sum)
{
    int32_t abandoned = atomic_load(&sum->segment->abandoned);
    int32_t dead = sum->barriers > 0 ? dead_rank(sum) : -1;

    // Whoever is gone may have arrived before.
    if (all_arrived(sum))
        return false;
    if (abandoned != 0)
        return !trainer_fail("rank %d stops: rank %d gave up", sum->params.rank,
                             abandoned - 1);
    if (dead >= 0)
        return !trainer_fail("rank %d stops: rank %d died", sum->params.rank,
                             dead);
    return false;
}

static bool barrier_wait(struct gradient_sum *sum)
{
    const struct timespec nap = {.tv_nsec = NAP_US * 1000L};
    double deadline = seconds_now() + GRADIENT_SUM_PATIENCE_S;
    long tries = 0;

    atomic_fetch_add(&sum->segment->arrived, 1);
    for (; !all_arrived(sum); tries++) {
        if (tries < YIELDS) {
            sched_yield();
            continue;
        }
        nanosleep(&nap, NULL);
        if (tries % NAPS_A_LOOK != 0)
            continue;
        if (barrier_is_hopeless(sum))
            return false;
        if (seconds_now() > deadline)
            return trainer_fail("rank %d waited %d s for the gradients of all "
                                "%d ranks; some rank stands still",
                                sum->params.rank, GRADIENT_SUM_PATIENCE_S,
                                sum->params.ranks);
    }
    sum->barriers++;
    return true;
}

// With the set-up lock held: the first to come gives the segment its size.
static bool segment_size(const struct gradient_sum *sum)
{
    struct stat stat;

    if (fstat(sum->file, &stat) != 0)
        return trainer_fail("cannot look at %s: %s", sum->path,
                            strerror(errno));
    if (stat.st_size == (off_t)sum->bytes)
        return true;
    if (stat.st_size != 0)
        return trainer_fail("segment %s has %lld bytes, not %zu: it is another "
                            "run's, choose another --shared",
                            sum->path, (long long)stat.st_size, sum->bytes);
    if (ftruncate(sum->file, (off_t)sum->bytes) != 0)
        return trainer_fail("cannot make %s of %zu bytes: %s", sum->path,
                            sum->bytes, strerror(errno));
    return true;
}

// With the set-up lock held: takes the rank's place.
static bool segment_join(struct gradient_sum *sum)
{
    const struct gradient_sum_params *params = &sum->params;
    struct segment *segment = sum->segment;
    struct flock alive = lock_byte(F_WRLCK, params->rank);

    if (segment->digest == 0)
        segment->digest = params->digest;
    if (segment->digest != params->digest)
        return trainer_fail("rank %d was started with other options or other "
                            "text than the ranks before it",
                            params->rank);
    if (fcntl(sum->file, F_OFD_SETLK, &alive) != 0)
        return trainer_fail("there is another rank %d in segment %s",
                            params->rank, sum->path);
    if (atomic_load(&segment->arrived) >= (uint64_t)params->ranks)
        return trainer_fail("segment %s has had all its %d ranks: it is "
                            "another run's, choose another --shared",
                            sum->path, params->ranks);
    return true;
}

static bool segment_map(struct gradient_sum *sum)
{
    struct flock set_up = lock_byte(F_WRLCK, sum->params.ranks);
    bool ok = false;

    if (fcntl(sum->file, F_OFD_SETLKW, &set_up) != 0)
        return trainer_fail("cannot lock %s: %s", sum->path, strerror(errno));
    if (!segment_size(sum))
        goto unlock;
    void *memory = mmap(NULL, sum->bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                        sum->file, 0);
    if (memory == MAP_FAILED) {
        trainer_fail("cannot map %s: %s", sum->path, strerror(errno));
        goto unlock;
    }
    sum->segment = memory;
    ok = segment_join(sum);

unlock:
    set_up.l_type = F_UNLCK;
    fcntl(sum->file, F_OFD_SETLK, &set_up);
    return ok;
}

// Opens the segment, joins it and waits for the others.
static bool segment_open(struct gradient_sum *sum)
{
    const struct gradient_sum_params *params = &sum->params;

    if (params->name == NULL)
        return trainer_fail(
            "%d ranks need --shared NAME: a name for the shared "
            "memory in which they sum their gradients, the same "
            "for all ranks and new for each run",
            params->ranks);
    snprintf(sum->path, sizeof(sum->path), "/%s", params->name);
    sum->bytes = sizeof(struct segment) + SETS * (size_t)params->ranks *
                                              params->values_max *
                                              sizeof(double);
    sum->file = shm_open(sum->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (sum->file < 0)
        return trainer_fail("cannot open shared memory %s: %s", sum->path,
                            strerror(errno));
    if (!segment_map(sum))
        return false;
    bool ok = barrier_wait(sum);
    // All have it open, or will never come: the name is not needed any more.
    if (params->rank == 0 || !ok)
        shm_unlink(sum->path);
    return ok;
}

bool gradient_sum_open(const struct gradient_sum_params *params,
                       struct gradient_sum **out)
{
    struct gradient_sum *sum = calloc(1, sizeof(*sum));

    if (sum == NULL)
        return trainer_fail("no memory for the sum of gradients");
    sum->params = *params;
    sum->file = -1;
    if (params->ranks > 1 && !segment_open(sum)) {
        gradient_sum_close(sum);
        return false;
    }
    *out = sum;
    return true;
}

bool gradient_sum_reduce(struct gradient_sum *sum, double *values, size_t count)
{
    const struct gradient_sum_params *params = &sum->params;

    if (params->ranks == 1)
        return true;
    double *set = sum->segment->values + sum->barriers % SETS *
                                             (size_t)params->ranks *
                                             params->values_max;
    memcpy(set + (size_t)params->rank * params->values_max, values,
           count * sizeof(*values));
    if (!barrier_wait(sum))
        return false;
    memcpy(values, set, count * sizeof(*values));
    for (size_t rank = 1; rank < (size_t)params->ranks; rank++)
        for (size_t i = 0; i < count; i++)
            values[i] += set[rank * params->values_max + i];
    return true;
}

void gradient_sum_abandon(struct gradient_sum *sum)
{
    int32_t none = 0;

    if (sum->segment != NULL)
        atomic_compare_exchange_strong(&sum->segment->abandoned, &none,
                                       sum->params.rank + 1);
}

void gradient_sum_close(struct gradient_sum *sum)
{
    if (sum == NULL)
        return;
    if (sum->segment != NULL)
        munmap(sum->segment, sum->bytes);
    if (sum->file >= 0)
        close(sum->file);
    free(sum);
}
