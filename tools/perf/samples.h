// SPDX-License-Identifier: BSD-3-Clause
// Durations that were measured, and their percentiles.
#ifndef PERF_SAMPLES_H
#define PERF_SAMPLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct samples {
    int64_t *ns;
    size_t count;
    size_t capacity;
};

// Room for `capacity` samples; false if there is no memory.
bool samples_create(struct samples *samples, size_t capacity);
void samples_free(struct samples *samples);

static inline void samples_add(struct samples *samples, int64_t ns)
{
    if (samples->count < samples->capacity)
        samples->ns[samples->count++] = ns;
}

void samples_sort(struct samples *samples);

// The nearest-rank percentile of sorted samples, in thousandths: 0 is the
// least, 500 the median, 1000 the greatest. At least one sample.
int64_t samples_percentile(const struct samples *samples, int permille);

// CLOCK_MONOTONIC in nanoseconds.
static inline int64_t samples_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#endif
