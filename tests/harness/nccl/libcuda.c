// SPDX-License-Identifier: BSD-3-Clause
// libcuda.so.1 of the tests: see made_up.h.
#include <stdlib.h>

#include "made_up.h"

#define NOT_READY 600
#define OUT_OF_MEMORY 2

#define EXPORT __attribute__((visibility("default")))

EXPORT struct made_up_cuda made_up_cuda = {.devices = 1};

EXPORT int cuInit(unsigned flags);
EXPORT int cuDeviceGetCount(int *count);
EXPORT int cuCtxGetCurrent(void **context);
EXPORT int cuMemHostAlloc(void **memory, size_t bytes, unsigned flags);
EXPORT int cuMemFreeHost(void *memory);
EXPORT int cuStreamCreate(void **stream, unsigned flags);
EXPORT int cuStreamQuery(void *stream);
EXPORT int cuStreamDestroy_v2(void *stream);

static int take(void **out, size_t bytes)
{
    *out = calloc(1, bytes);
    if (*out == NULL)
        return OUT_OF_MEMORY;
    atomic_fetch_add(&made_up_cuda.open, 1);
    return 0;
}

static int give_back(void *memory)
{
    free(memory);
    atomic_fetch_sub(&made_up_cuda.open, 1);
    return 0;
}

int cuInit(unsigned flags)
{
    (void)flags;
    return made_up_cuda.init_error;
}

int cuDeviceGetCount(int *count)
{
    *count = made_up_cuda.devices;
    return 0;
}

int cuCtxGetCurrent(void **context)
{
    *context = made_up_cuda.no_context ? NULL : &made_up_cuda;
    return 0;
}

int cuMemHostAlloc(void **memory, size_t bytes, unsigned flags)
{
    (void)flags;
    return made_up_cuda.memory_error != 0 ? made_up_cuda.memory_error
                                          : take(memory, bytes);
}

int cuMemFreeHost(void *memory)
{
    return give_back(memory);
}

int cuStreamCreate(void **stream, unsigned flags)
{
    (void)flags;
    return take(stream, sizeof(struct made_up_stream));
}

int cuStreamQuery(void *stream)
{
    const struct made_up_stream *made_up = stream;

    if (made_up_cuda.stream_error != 0)
        return made_up_cuda.stream_error;
    if (atomic_load(&made_up->error) != 0)
        return atomic_load(&made_up->error);
    return atomic_load(&made_up->pending) > 0 ? NOT_READY : 0;
}

int cuStreamDestroy_v2(void *stream)
{
    return give_back(stream);
}
