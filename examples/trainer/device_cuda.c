// SPDX-License-Identifier: BSD-3-Clause
// See device.h: a GPU, by the driver API, found at run time as Tally finds it.
// The host waits in take, and where an array must grow.
#include <dlfcn.h>
#include <string.h>

#include "device.h"
#include "fail.h"

// What is called of libcuda.so.1, by its names; a CUresult is an int.
#define CUDA_FUNCTIONS(F)                                                      \
    F(cuInit, (unsigned int))                                                  \
    F(cuDeviceGetCount, (int *))                                               \
    F(cuDeviceGet, (int *, int))                                               \
    F(cuDevicePrimaryCtxRetain, (void **, int))                                \
    F(cuCtxSetCurrent, (void *))                                               \
    F(cuStreamCreate, (void **, unsigned int))                                 \
    F(cuStreamDestroy_v2, (void *))                                            \
    F(cuStreamSynchronize, (void *))                                           \
    F(cuMemAlloc_v2, (unsigned long long *, size_t))                           \
    F(cuMemFree_v2, (unsigned long long))                                      \
    F(cuMemcpyHtoDAsync_v2,                                                    \
      (unsigned long long, const void *, size_t, void *))                      \
    F(cuMemcpyDtoHAsync_v2, (void *, unsigned long long, size_t, void *))

#define STREAM_NON_BLOCKING 1u // it does not wait for the default stream

static struct {
// NOLINTNEXTLINE(bugprone-macro-parentheses)
#define MEMBER(name, parameters) int(*name) parameters;
    CUDA_FUNCTIONS(MEMBER)
#undef MEMBER
} cuda;

static bool done(int error, const char *what)
{
    return error == 0 ||
           trainer_fail("--device cuda: %s: CUDA error %d", what, error);
}

static bool driver_load(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    void *symbol;

    if (library == NULL)
        return trainer_fail("--device cuda: there is no CUDA driver: %s",
                            dlerror());
#define FIND(name, parameters)                                                 \
    symbol = dlsym(library, #name);                                            \
    if (symbol == NULL)                                                        \
        return trainer_fail("--device cuda: the CUDA driver has no " #name);   \
    memcpy(&cuda.name, &symbol, sizeof(symbol));
    CUDA_FUNCTIONS(FIND)
#undef FIND
    return true;
}

static bool cuda_open(int32_t rank, struct device_memory *memory)
{
    int count = 0;
    int device;
    void *context;

    if (!driver_load() || !done(cuda.cuInit(0), "cuInit") ||
        !done(cuda.cuDeviceGetCount(&count), "cuDeviceGetCount"))
        return false;
    if (count == 0)
        return trainer_fail("--device cuda: there is no GPU");
    return done(cuda.cuDeviceGet(&device, rank % count), "cuDeviceGet") &&
           done(cuda.cuDevicePrimaryCtxRetain(&context, device),
                "cuDevicePrimaryCtxRetain") &&
           done(cuda.cuCtxSetCurrent(context), "cuCtxSetCurrent") &&
           done(cuda.cuStreamCreate(&memory->stream, STREAM_NON_BLOCKING),
                "cuStreamCreate");
}

// The context goes with the process.
static void cuda_close(struct device_memory *memory)
{
    for (int i = 0; i < DEVICE_ARRAYS; i++)
        if (memory->arrays[i].at != 0)
            cuda.cuMemFree_v2(memory->arrays[i].at);
    if (memory->stream != NULL)
        cuda.cuStreamDestroy_v2(memory->stream);
}

static bool make_room(struct device_memory *memory, enum device_array array,
                      size_t bytes)
{
    if (memory->arrays[array].bytes >= bytes)
        return true;
    // Kernels before may still read it.
    if (!done(cuda.cuStreamSynchronize(memory->stream), "cuStreamSynchronize"))
        return false;
    if (memory->arrays[array].at != 0)
        cuda.cuMemFree_v2(memory->arrays[array].at);
    memory->arrays[array].at = 0;
    memory->arrays[array].bytes = 0;
    if (!done(cuda.cuMemAlloc_v2(&memory->arrays[array].at, bytes),
              "cuMemAlloc"))
        return false;
    memory->arrays[array].bytes = bytes;
    return true;
}

static void *cuda_give(struct device_memory *memory, enum device_array array,
                       void *values, size_t bytes)
{
    if (!make_room(memory, array, bytes > 0 ? bytes : 1) ||
        !done(cuda.cuMemcpyHtoDAsync_v2(memory->arrays[array].at, values, bytes,
                                        memory->stream),
              "cuMemcpyHtoDAsync"))
        return NULL;
    return (void *)(uintptr_t)memory->arrays[array].at;
}

static bool cuda_take(struct device_memory *memory, void *to, const void *from,
                      size_t bytes)
{
    return done(cuda.cuMemcpyDtoHAsync_v2(to,
                                          (unsigned long long)(uintptr_t)from,
                                          bytes, memory->stream),
                "cuMemcpyDtoHAsync") &&
           done(cuda.cuStreamSynchronize(memory->stream),
                "cuStreamSynchronize");
}

const struct device device_cuda = {
    .name = "cuda",
    .device = TALLY_DEVICE_CUDA,
    .open = cuda_open,
    .close = cuda_close,
    .give = cuda_give,
    .take = cuda_take,
};
