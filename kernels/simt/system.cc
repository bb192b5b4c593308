// SPDX-License-Identifier: BSD-3-Clause
// The emulator's memory that others than the kernel look at, and its clock.
#include <time.h>

#include "kernels/simt/machine.h"

void gpu_atomic_max(int64_t *at, int64_t x)
{
    if (x > *at)
        *at = x;
}

uint64_t gpu_arrive(uint64_t *at)
{
    return (*at)++;
}

static thread_local void (*watching)(const uint64_t *at);

void simt_watch(void (*seen)(const uint64_t *at))
{
    watching = seen;
}

void simt::store_finish(size_t index)
{
    uint64_t *at = machine.stores[index].at;
    size_t first = 0;

    while (machine.stores[first].at != at)
        first++;
    __atomic_store_n(at, machine.stores[first].word, __ATOMIC_RELAXED);
    machine.stores.erase(machine.stores.begin() + (long)first);
    if (watching != NULL)
        watching(at);
}

void gpu_store_system(uint64_t *at, uint64_t x)
{
    if ((uintptr_t)at % sizeof(*at) != 0)
        simt::broken("8 bytes at %p, which is not aligned", (void *)at);
    simt::machine.stores.push_back({at, x});
}

void gpu_store_system(uint64_t *at, uint64_t x, uint64_t next)
{
    simt::aligned(at);
    gpu_store_system(at, x);
    gpu_store_system(at + 1, next);
}

uint64_t gpu_load_system(const uint64_t *at)
{
    return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}

uint64_t gpu_nanoseconds()
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// A place has nothing to be read in it until the copy has been waited for; then
// what is at its source at that time.
void gpu_copy(void *to, const void *from)
{
    simt::aligned(to);
    simt::aligned(from);
    memset(to, 0xa5, sizeof(gpu_vector));
    simt::self().copies.push_back({to, from});
}

void gpu_copy_wait()
{
    for (const struct simt::copy &copy : simt::self().copies)
        memcpy(copy.to, copy.from, sizeof(gpu_vector));
    simt::self().copies.clear();
}

gpu_vector gpu_load_shared(const void *at)
{
    simt::aligned(at);
    return *(const gpu_vector *)at;
}

void simt_launch_early(bool early)
{
    simt::machine.early = early;
}

// What is in front has ended: the emulator runs one kernel after the other.
void gpu_dependency_wait()
{
    simt::self().depended = true;
}

void gpu_dependents_launch()
{
    if (simt::machine.early && !simt::self().depended)
        simt::broken("lets the next kernel begin before the one in front of "
                     "its own has ended");
}

// Processors are few here: once all threads that can run have paused, the host
// thread sleeps a little.
void gpu_pause()
{
    const struct timespec little = {0, 50 * 1000};

    if (++simt::machine.pauses > simt::machine.ready.size()) {
        simt::machine.pauses = 0;
        nanosleep(&little, NULL);
    }
    simt::machine.ready.push_back(simt::machine.running);
    simt::rest();
}
