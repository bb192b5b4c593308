// SPDX-License-Identifier: BSD-3-Clause
// A step on a stream: its memory, and what is enqueued for it. What the host
// answers is core/step_device.c.
#include <assert.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/error.h"
#include "device/cuda/device.h"
#include "numeric/maximum.h"
#include "order/slot.h"

#define ALIGNMENT_BYTES 256

static_assert(KERNEL_CHANNELS_MAX >= TALLY_CHANNELS_MAX, "a factor each");
static_assert(KERNEL_SLOT_THREADS >= TALLY_CHANNELS_MAX, "a thread each");

static size_t rounded(size_t bytes)
{
    return (bytes + ALIGNMENT_BYTES - 1) / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
}

static size_t lane_count(const struct cuda_step *step)
{
    return NUMERIC_LANES * step->params.channels + step->params.max_lanes;
}

// Places, in pinned memory: slots, answers, expired, the mirror.
static tally_status_t allocate_pinned(struct cuda_step *step)
{
    const struct cuda_driver *driver = step->device->driver;
    CUdeviceptr on_device = 0;
    void *memory;

    step->slot_bytes = rounded((KERNEL_SLOT_HEAD_LANES + lane_count(step)) *
                               KERNEL_LANE_WORDS * sizeof(uint64_t));
    size_t slots = KERNEL_SLOTS * step->slot_bytes;
    size_t answers =
        rounded(KERNEL_SLOTS * step->params.channels * sizeof(*step->answers));
    size_t expired = slots + answers;
    size_t mirror = expired + ALIGNMENT_BYTES;
    size_t all = mirror + ALIGNMENT_BYTES;
    CUresult error = driver->cuMemHostAlloc(
        &memory, all, CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP);
    if (error != CUDA_SUCCESS)
        return cuda_driver_fail(driver, "cuMemHostAlloc", error);
    step->pinned = memory;
    memset(memory, 0, all);
    error = driver->cuMemHostGetDevicePointer_v2(&on_device, memory, 0);
    if (error != CUDA_SUCCESS)
        return cuda_driver_fail(driver, "cuMemHostGetDevicePointer", error);
    char *device = (char *)(uintptr_t)on_device;
    step->slots = step->pinned;
    step->device_slots = device;
    step->answers = (uint64_t *)(void *)(step->pinned + slots);
    step->device_answers = (uint64_t *)(void *)(device + slots);
    step->expired = (uint64_t *)(void *)(step->pinned + expired);
    step->device_expired = (uint64_t *)(void *)(device + expired);
    step->mirror = (struct kernel_mirror *)(void *)(step->pinned + mirror);
    step->device_mirror = (struct kernel_mirror *)(void *)(device + mirror);
    return TALLY_OK;
}

static tally_status_t allocate_memory(struct cuda_step *step)
{
    const struct cuda_driver *driver = step->device->driver;
    size_t records =
        rounded(step->params.channels * sizeof(struct numeric_record));
    size_t scales = rounded(step->params.channels * sizeof(float));
    size_t maxima = rounded(step->params.max_lanes * sizeof(int64_t));
    size_t lanes = rounded(lane_count(step) * sizeof(int64_t));
    size_t all =
        2 * records + scales + maxima + lanes + sizeof(struct kernel_state);
    CUdeviceptr memory;
    CUresult error = driver->cuMemAlloc_v2(&memory, all);

    if (error != CUDA_SUCCESS)
        return cuda_driver_fail(driver, "cuMemAlloc", error);
    char *at = (char *)(uintptr_t)memory;
    step->memory = at;
    step->counts = (struct numeric_record *)(void *)at;
    step->losses = (struct numeric_record *)(void *)(at += records);
    step->scales = (float *)(void *)(at += records);
    step->maxima = (int64_t *)(void *)(at += scales);
    step->lanes = (int64_t *)(void *)(at += maxima);
    step->state = (struct kernel_state *)(void *)(at + lanes);
    error = driver->cuMemsetD8_v2(memory, 0, all);
    // INT64_MIN, NUMERIC_MAXIMUM_NONE: its last byte.
    for (uint32_t i = 0; error == CUDA_SUCCESS && i < step->params.max_lanes;
         i++)
        error = driver->cuMemsetD8_v2(
            (CUdeviceptr)(uintptr_t)&step->maxima[i] + 7, 0x80, 1);
    // Streams that do not wait for the default one may be used.
    if (error == CUDA_SUCCESS)
        error = driver->cuCtxSynchronize();
    return error == CUDA_SUCCESS
               ? TALLY_OK
               : cuda_driver_fail(driver, "cuMemsetD8", error);
}

static tally_status_t check_wait(const struct cuda_step *step)
{
    int can = 1;

    if (step->params.wait == CUDA_WAIT_MEMOP)
        step->device->driver->cuDeviceGetAttribute(
            &can, CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS,
            step->device->ordinal);
    return can != 0 ? TALLY_OK
                    : core_fail(TALLY_ERR_UNSUPPORTED,
                                "TALLY_STREAM_WAIT=memop: this device has no "
                                "64-bit stream memory operations");
}

tally_status_t cuda_step_create(struct device *device,
                                const struct cuda_step_params *params,
                                struct cuda_step **out)
{
    bool entered;
    struct cuda_step *step = calloc(1, sizeof(*step));

    if (step == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory");
    step->device = device;
    step->params = *params;
    tally_status_t status = cuda_enter(device, &entered);
    if (status == TALLY_OK) {
        status = check_wait(step);
        if (status == TALLY_OK)
            status = allocate_pinned(step);
        if (status == TALLY_OK)
            status = allocate_memory(step);
        cuda_leave(device, entered);
    }
    if (status != TALLY_OK) {
        cuda_step_free(step);
        return status;
    }
    *out = step;
    return TALLY_OK;
}

void cuda_step_synchronize(struct cuda_step *step)
{
    bool entered;

    if (step == NULL || cuda_enter(step->device, &entered) != TALLY_OK)
        return;
    step->device->driver->cuCtxSynchronize();
    cuda_leave(step->device, entered);
}

void cuda_step_free(struct cuda_step *step)
{
    bool entered;

    if (step == NULL)
        return;
    if (cuda_enter(step->device, &entered) == TALLY_OK) {
        if (step->memory != NULL)
            step->device->driver->cuMemFree_v2(
                (CUdeviceptr)(uintptr_t)step->memory);
        if (step->pinned != NULL)
            step->device->driver->cuMemFreeHost(step->pinned);
        cuda_parts_free(step->device, step->parts);
        cuda_leave(step->device, entered);
    }
    free(step);
}

static const struct kernel_shape one_block = {1, 1, KERNEL_SLOT_THREADS, 0};
static const struct kernel_shape settle_block = {1, 1, KERNEL_SLOT_THREADS,
                                                 KERNEL_SETTLE_BYTES};
static const struct kernel_shape one_warp = {1, 1, 32, 0};

tally_status_t cuda_step_check_capture(struct cuda_step *step,
                                       tally_stream_t stream)
{
    int capturing = CU_STREAM_CAPTURE_STATUS_NONE;
    bool entered;

    if (step->params.wait != CUDA_WAIT_MEMOP)
        return TALLY_OK;
    tally_status_t status = cuda_enter(step->device, &entered);
    if (status != TALLY_OK)
        return status;
    step->device->driver->cuStreamIsCapturing(stream, &capturing);
    cuda_leave(step->device, entered);
    return capturing == CU_STREAM_CAPTURE_STATUS_NONE
               ? TALLY_OK
               : core_fail(TALLY_ERR_UNSUPPORTED,
                           "TALLY_STREAM_WAIT=memop: not for steps that are "
                           "captured into a graph");
}

static struct numeric_record *records_of(const struct cuda_step *step,
                                         uint32_t carries)
{
    return (carries & KERNEL_SLOT_LOSSES) != 0 ? step->losses : step->counts;
}

static struct kernel_publish publication(const struct cuda_step *step,
                                         uint32_t carries, bool maxima,
                                         int32_t micro_batches)
{
    return (struct kernel_publish){
        .state = step->state,
        .slots = step->device_slots,
        .slot_bytes = step->slot_bytes,
        .records = records_of(step, carries),
        .maxima = maxima ? step->maxima : NULL,
        .channels = step->params.channels,
        .max_lanes = step->params.max_lanes,
        .carries = carries,
        .micro_batches = micro_batches,
        .ranks = step->params.ranks,
    };
}

// Enqueues a kernel that publishes, and notes what it does.
static tally_status_t
launch_publication(struct cuda_step *step, enum cuda_kernel kernel,
                   const void *params, const struct kernel_shape *shape,
                   uint32_t carries, tally_stream_t stream)
{
    bool entered;
    tally_status_t status = cuda_enter(step->device, &entered);

    if (status != TALLY_OK)
        return status;
    status = cuda_launch(step->device, kernel, params, shape, stream);
    cuda_leave(step->device, entered);
    if (status != TALLY_OK)
        return status;
    step->published++;
    if ((carries & KERNEL_SLOT_WEIGHTS) != 0)
        step->awaited = step->published;
    step->stream = stream;
    // A handle that is another stream in every thread says nothing.
    step->one_stream = (CUstream)stream != CU_STREAM_PER_THREAD;
    return TALLY_OK;
}

tally_status_t cuda_step_publish(struct cuda_step *step, uint32_t carries,
                                 bool maxima, int32_t micro_batches,
                                 tally_stream_t stream)
{
    const struct kernel_publish publish =
        publication(step, carries, maxima, micro_batches);

    return launch_publication(step, CUDA_PUBLISH, &publish, &one_block, carries,
                              stream);
}

tally_status_t cuda_step_count(struct cuda_step *step, uint32_t channel,
                               const struct device_labels *labels, bool last,
                               int32_t micro_batches, tally_stream_t stream,
                               bool *published)
{
    struct numeric_record *record = &step->counts[channel];

    *published = false;
    step->one_stream = step->one_stream && stream == step->stream;
    // Without tokens there is no launch.
    if (!last || !step->one_stream || labels->tokens == 0)
        return cuda_count(step->device, labels, record, stream);
    const struct kernel_count_publish both = {
        .count = {cuda_labels(labels), record},
        .publish = publication(step, KERNEL_SLOT_WEIGHTS, false, micro_batches),
    };
    struct kernel_shape shape =
        kernel_count_shape(&step->device->shape, labels->tokens);
    shape.shared_bytes = KERNEL_COUNT_PUBLISH_BYTES;
    tally_status_t status = launch_publication(
        step, CUDA_COUNT_PUBLISH, &both, &shape, KERNEL_SLOT_WEIGHTS, stream);
    *published = status == TALLY_OK;
    return status;
}

// Whatever the newest publication of weights is, the stream is there: nothing
// behind this function has run.
static void wait_on_host(void *argument)
{
    const struct cuda_step *step = argument;
    const int64_t deadline_us = clock_now_us() + step->params.deadline_us;
    uint32_t awaited = 0;
    bool any = false;

    for (uint64_t i = 0; i < KERNEL_SLOTS; i++) {
        uint32_t sequence;
        if (!slot_carries_weights(cuda_step_slot(step, i), &sequence))
            continue;
        if (!any || sequence - awaited <= KERNEL_SLOTS)
            awaited = sequence;
        any = true;
    }
    const uint64_t *word =
        step->answers + awaited % KERNEL_SLOTS * step->params.channels;
    while (any && __atomic_load_n(word, __ATOMIC_ACQUIRE) >> 32 != awaited &&
           clock_now_us() < deadline_us)
        sched_yield();
}

static tally_status_t wait_before(struct cuda_step *step, tally_stream_t stream)
{
    const struct cuda_driver *driver = step->device->driver;
    CUresult error = CUDA_SUCCESS;

    if (step->params.wait == CUDA_WAIT_HOSTFUNC)
        error = driver->cuLaunchHostFunc(stream, wait_on_host, step);
    if (step->params.wait == CUDA_WAIT_MEMOP) {
        uint64_t *word = step->device_answers +
                         step->awaited % KERNEL_SLOTS * step->params.channels;
        error = driver->cuStreamWaitValue64_v2(
            stream, (CUdeviceptr)(uintptr_t)word, step->awaited << 32,
            CU_STREAM_WAIT_VALUE_GEQ);
    }
    return error == CUDA_SUCCESS
               ? TALLY_OK
               : cuda_driver_fail(driver, "the stream's wait", error);
}

tally_status_t cuda_step_wait(struct cuda_step *step, tally_stream_t stream)
{
    bool entered;
    struct kernel_wait wait = {
        .state = step->state,
        .answers = step->device_answers,
        .expired = step->device_expired,
        .scales = step->scales,
        .channels = step->params.channels,
        .deadline_ns = (uint64_t)step->params.deadline_us * 1000,
    };
    tally_status_t status = cuda_enter(step->device, &entered);

    if (status != TALLY_OK)
        return status;
    status = wait_before(step, stream);
    if (status == TALLY_OK)
        status =
            cuda_launch(step->device, CUDA_WAIT, &wait, &one_block, stream);
    cuda_leave(step->device, entered);
    return status;
}

tally_status_t cuda_step_check_stream(tally_stream_t stream)
{
    return (CUstream)stream != CU_STREAM_PER_THREAD
               ? TALLY_OK
               : core_fail(TALLY_ERR_UNSUPPORTED,
                           "the default stream of the thread: NCCL may enqueue "
                           "by a thread of its own, so a stream must be given");
}

tally_status_t cuda_step_contribute(struct cuda_step *step,
                                    const struct cuda_reduction *reduction,
                                    tally_stream_t stream)
{
    const struct kernel_contribute contribute = {
        .state = step->state,
        .mirror = step->device_mirror,
        .records = records_of(step, reduction->carries),
        .maxima = reduction->maxima ? step->maxima : NULL,
        .lanes = step->lanes,
        .step = reduction->number,
        .rank = step->params.rank,
        .ranks = step->params.ranks,
        .channels = step->params.channels,
        .max_lanes = step->params.max_lanes,
        .carries = reduction->carries,
    };

    return cuda_run(step->device, CUDA_CONTRIBUTE, &contribute, &one_block,
                    stream);
}

tally_status_t cuda_step_settle(struct cuda_step *step,
                                const struct cuda_reduction *reduction,
                                tally_stream_t stream)
{
    struct kernel_settle settle = {
        .state = step->state,
        .mirror = step->device_mirror,
        .lanes = step->lanes,
        .slots = step->device_slots,
        .slot_bytes = step->slot_bytes,
        .scales = step->scales,
        .step = reduction->number,
        .ranks = step->params.ranks,
        .channels = step->params.channels,
        .max_lanes = step->params.max_lanes,
        .carries = reduction->carries,
        .micro_batches = reduction->micro_batches,
        .divisor = reduction->divisor,
    };

    memcpy(settle.coefficients, reduction->coefficients,
           step->params.channels * sizeof(*settle.coefficients));
    return cuda_run(step->device, CUDA_SETTLE, &settle, &settle_block, stream);
}

tally_status_t cuda_step_maximum(struct cuda_step *step, uint32_t lane,
                                 const float *value, tally_stream_t stream)
{
    struct kernel_maximum maximum = {&step->maxima[lane], value};

    return cuda_run(step->device, CUDA_MAXIMUM, &maximum, &one_warp, stream);
}
