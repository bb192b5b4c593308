// SPDX-License-Identifier: BSD-3-Clause
// See samples.h.
#include "perf/samples.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

bool samples_create(struct samples *samples, size_t capacity)
{
    size_t bytes = (capacity > 0 ? capacity : 1) * sizeof(*samples->ns);

    *samples = (struct samples){.ns = malloc(bytes), .capacity = capacity};
    if (samples->ns == NULL)
        return false;
    // Touched here, so that no page fault falls into what is measured.
    memset(samples->ns, 0, bytes);
    return true;
}

void samples_free(struct samples *samples)
{
    free(samples->ns);
    *samples = (struct samples){0};
}

static int compare(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left;
    int64_t b = *(const int64_t *)right;

    return (a > b) - (a < b);
}

void samples_sort(struct samples *samples)
{
    qsort(samples->ns, samples->count, sizeof(*samples->ns), compare);
}

int64_t samples_percentile(const struct samples *samples, int permille)
{
    size_t rank = (samples->count * (size_t)permille + 999) / 1000;

    assert(samples->count > 0 && permille >= 0 && permille <= 1000);
    return samples->ns[rank > 0 ? rank - 1 : 0];
}
