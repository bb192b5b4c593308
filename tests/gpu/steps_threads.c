// SPDX-License-Identifier: BSD-3-Clause
// Case of gpu_steps: who calls the driver. Tally's table of its functions is
// filled with others, which note whether the thread is the application's.
#include <stdatomic.h>
#include <stdio.h>

#include "device/cuda/driver.h"
#include "gpu/steps_epoch.h"

static _Thread_local bool is_application;
static atomic_long own_calls, other_calls;
static struct cuda_driver real;

static void note(const char *name)
{
    if (is_application) {
        atomic_fetch_add(&own_calls, 1);
        return;
    }
    if (atomic_fetch_add(&other_calls, 1) == 0)
        fprintf(stderr, "%s: by a thread of Tally's or the driver's\n", name);
}

// AUDITED(name, parameters, arguments): all that CUDA_DRIVER_FUNCTIONS has; one
// that is missed here does not compile below.
#define AUDITED(name, parameters, arguments)                                   \
    static CUresult audited_##name parameters                                  \
    {                                                                          \
        note(#name);                                                           \
        return real.name arguments;                                            \
    }

AUDITED(cuInit, (unsigned int flags), (flags))
AUDITED(cuDriverGetVersion, (int *version), (version))
AUDITED(cuGetErrorName, (CUresult error, const char **text), (error, text))
AUDITED(cuGetErrorString, (CUresult error, const char **text), (error, text))
AUDITED(cuDeviceGet, (CUdevice * device, int ordinal), (device, ordinal))
AUDITED(cuDeviceGetCount, (int *count), (count))
AUDITED(cuDeviceGetAttribute, (int *value, int attribute, CUdevice device),
        (value, attribute, device))
AUDITED(cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device),
        (context, device))
AUDITED(cuDevicePrimaryCtxRelease_v2, (CUdevice device), (device))
AUDITED(cuCtxGetCurrent, (CUcontext * context), (context))
AUDITED(cuCtxGetDevice, (CUdevice * device), (device))
AUDITED(cuCtxPushCurrent_v2, (CUcontext context), (context))
AUDITED(cuCtxPopCurrent_v2, (CUcontext * context), (context))
AUDITED(cuCtxSynchronize, (void), ())
AUDITED(cuModuleLoadData, (CUmodule * module, const void *image),
        (module, image))
AUDITED(cuModuleUnload, (CUmodule module), (module))
AUDITED(cuModuleGetFunction,
        (CUfunction * function, CUmodule module, const char *name),
        (function, module, name))
AUDITED(cuMemAlloc_v2, (CUdeviceptr * memory, size_t bytes), (memory, bytes))
AUDITED(cuMemFree_v2, (CUdeviceptr memory), (memory))
AUDITED(cuMemHostAlloc, (void **memory, size_t bytes, unsigned int flags),
        (memory, bytes, flags))
AUDITED(cuMemFreeHost, (void *memory), (memory))
AUDITED(cuMemHostGetDevicePointer_v2,
        (CUdeviceptr * on_device, void *memory, unsigned int flags),
        (on_device, memory, flags))
AUDITED(cuMemsetD8_v2, (CUdeviceptr memory, unsigned char value, size_t bytes),
        (memory, value, bytes))
AUDITED(cuLaunchKernelEx,
        (const CUlaunchConfig *config, CUfunction function, void **parameters,
         void **extra),
        (config, function, parameters, extra))
AUDITED(cuLaunchHostFunc, (CUstream stream, CUhostFn function, void *argument),
        (stream, function, argument))
AUDITED(cuStreamIsCapturing, (CUstream stream, int *status), (stream, status))
AUDITED(cuStreamWaitValue64_v2,
        (CUstream stream, CUdeviceptr at, uint64_t value, unsigned int flags),
        (stream, at, value, flags))

// Before the process has opened a device of Tally's. The table is const to who
// gets it, and a variable of the driver's file.
static void audit(void)
{
    const struct cuda_driver *table;

    is_application = true;
    EXPECT(cuda_driver_open(&table) == TALLY_OK);
    real = *table;
#define PUT(name, parameters) .name = audited_##name,
    *(struct cuda_driver *)(uintptr_t)table =
        (struct cuda_driver){.library = real.library,
                             .version = real.version,
                             CUDA_DRIVER_FUNCTIONS(PUT)};
#undef PUT
}

// Nobody but the progress engine's thread moves it while the stream is awaited;
// in the end it is the one that finds that a peer is gone.
static void by_its_own_threads(struct processes_member *member,
                               const void *unused)
{
    const tally_order_t orders[] = {TALLY_COUNT_FIRST, TALLY_SCALE_LATE};
    struct rank rank;
    tally_channel_result_t channel;
    float max;

    (void)unused;
    rank_open(&rank, member);
    audit();
    struct arrays arrays = arrays_of(member->rank);
    for (int i = 0; i < 2; i++) {
        tally_step_t *step = rank_step(&rank, orders[i], TALLY_DEVICE_CUDA);
        EXPECT(atomic_load(&own_calls) > 0);
        for (uint64_t epoch = 1; epoch <= 10; epoch++) {
            enqueue(step, orders[i], &arrays, rank.stream);
            gpu_synchronize(rank.stream);
            EXPECT(read_result(step, epoch, &channel, &max) == TALLY_OK);
        }
        EXPECT(tally_step_free(step) == TALLY_OK);
    }
    tally_step_t *step = rank_step(&rank, TALLY_COUNT_FIRST, TALLY_DEVICE_CUDA);
    enqueue(step, TALLY_COUNT_FIRST, &arrays, rank.stream);
    EXPECT(read_result(step, 1, &channel, &max) == TALLY_OK);
    rank_1_is_killed(member);
    enqueue(step, TALLY_COUNT_FIRST, &arrays, rank.stream);
    if (!nccl_is_trainers()) // else it holds the stream until it is aborted
        gpu_synchronize(rank.stream);
    expect_failed(&rank, step, 2, TALLY_ERR_PEER);
    EXPECT(tally_step_free(step) == TALLY_OK);
    rank_close(&rank);
    EXPECT(atomic_load(&other_calls) == 0);
}

void only_the_application_calls_the_driver(void)
{
    const enum processes_end ends[] = {PROCESSES_RETURNS, PROCESSES_IS_KILLED};

    must_end(2, by_its_own_threads, NULL, ends);
}
