// SPDX-License-Identifier: BSD-3-Clause
// Losses of rows, and of some columns of them: which kernels are launched.
#include <stdlib.h>

#include "core/error.h"
#include "device/cuda/device.h"

// Parts of rows, between loss and backward: the first of a step's is in use,
// the older ones may still be by work under way.
struct cuda_parts {
    struct cuda_parts *older;
    struct kernel_parts *memory;
    int64_t tokens; // room
};

// Room for the parts of so many rows. What was handed out before stays.
static tally_status_t parts_take(struct device *device,
                                 struct cuda_parts **of_step, int64_t tokens,
                                 tally_stream_t stream,
                                 struct kernel_parts **out)
{
    const struct cuda_driver *driver = device->driver;
    int capturing = CU_STREAM_CAPTURE_STATUS_NONE;
    CUdeviceptr memory;

    if (*of_step == NULL || (*of_step)->tokens < tokens) {
        driver->cuStreamIsCapturing(stream, &capturing);
        if (capturing != CU_STREAM_CAPTURE_STATUS_NONE)
            return core_fail(TALLY_ERR_UNSUPPORTED,
                             "a gradient of %lld such rows needs memory, which "
                             "cannot be had under capture: do one step of that "
                             "size before",
                             (long long)tokens);
        struct cuda_parts *parts = calloc(1, sizeof(*parts));
        if (parts == NULL)
            return core_fail(TALLY_ERR_MEMORY, "no memory");
        CUresult error = driver->cuMemAlloc_v2(
            &memory, (size_t)tokens * sizeof(struct kernel_parts));
        if (error != CUDA_SUCCESS) {
            free(parts);
            return cuda_driver_fail(driver, "cuMemAlloc", error);
        }
        parts->memory = (struct kernel_parts *)(uintptr_t)memory;
        parts->tokens = tokens;
        parts->older = *of_step;
        *of_step = parts;
    }
    *out = (*of_step)->memory;
    return TALLY_OK;
}

void cuda_parts_free(struct device *device, struct cuda_parts *parts)
{
    while (parts != NULL) {
        struct cuda_parts *older = parts->older;
        device->driver->cuMemFree_v2((CUdeviceptr)parts->memory);
        free(parts);
        parts = older;
    }
}

// The forward pass by itself.
static tally_status_t launch_forward(struct device *device,
                                     enum kernel_element type, bool shaped,
                                     const struct kernel_job *job,
                                     tally_stream_t stream)
{
    const int64_t tokens = job->labels.tokens;
    uint32_t kernel = shaped ? CUDA_LOSS_SHAPED : CUDA_LOSS;
    struct kernel_shape shape =
        kernel_loss_shape(&device->shape, type, job->width, tokens);

    if (!shaped && kernel_loss_rows_pays(&device->shape, type, job)) {
        kernel = CUDA_LOSS_ROWS;
        shape = kernel_loss_rows_shape(&device->shape, tokens);
    }
    return cuda_launch(device, kernel + type, job, &shape, stream);
}

static tally_status_t launch_backward(struct device *device,
                                      enum kernel_element type, bool shaped,
                                      const struct kernel_job *job,
                                      tally_stream_t stream)
{
    const uint32_t kernel = shaped ? CUDA_BACKWARD_SHAPED : CUDA_BACKWARD;
    const struct kernel_shape shape =
        kernel_backward_shape(type, job->width, job->labels.tokens);

    return cuda_launch(device, kernel + type, job, &shape, stream);
}

// The shaped variant has no kernel of one pass.
static tally_status_t launch_loss(struct device *device,
                                  enum kernel_element type,
                                  const struct device_loss *given,
                                  struct kernel_job *job, tally_stream_t stream)
{
    const bool shaped = given->shaping != NULL;
    tally_status_t status = TALLY_OK;

    if (job->gradient != NULL && !shaped &&
        kernel_loss_grad_fits(&device->shape, type, job)) {
        uint32_t kernel = kernel_loss_grad_is_long(type, job->width)
                              ? CUDA_LOSS_GRAD_LONG
                              : CUDA_LOSS_GRAD;
        const struct kernel_shape shape =
            kernel_loss_grad_shape(type, job->width, job->labels.tokens);
        return cuda_launch(device, kernel + type, job, &shape, stream);
    }
    if (job->gradient != NULL)
        status = parts_take(device, given->parts, job->labels.tokens, stream,
                            &job->parts);
    if (status == TALLY_OK)
        status = launch_forward(device, type, shaped, job, stream);
    if (status != TALLY_OK || job->gradient == NULL)
        return status;
    return launch_backward(device, type, shaped, job, stream);
}

// Parts of all columns are there. One thread has all of a row's: it may write
// what becomes of them over the first.
static tally_status_t launch_columns(struct device *device,
                                     enum kernel_element type,
                                     const struct device_loss *given,
                                     struct kernel_job *job,
                                     tally_stream_t stream)
{
    const bool shaped = given->shaping != NULL;
    const struct kernel_finish finish = {
        .labels = job->labels,
        .shards = given->columns.parts,
        .ranks = given->columns.shards,
        .shaping = job->shaping,
        .parts = given->columns.parts,
        .nll = job->nll,
        .record = job->record,
    };
    const struct kernel_shape shape = kernel_finish_shape(job->labels.tokens);
    tally_status_t status =
        cuda_launch(device, shaped ? CUDA_FINISH_SHAPED : CUDA_FINISH, &finish,
                    &shape, stream);

    if (status != TALLY_OK || job->gradient == NULL)
        return status;
    job->parts = given->columns.parts;
    return launch_backward(device, type, shaped, job, stream);
}

static struct kernel_job job_of(const struct device_loss *given)
{
    struct kernel_job job = {
        .labels = cuda_labels(&given->labels),
        .logits = given->logits,
        .stride = given->logits_stride,
        .begin = given->columns.begin,
        .width = given->columns.width,
        .nll = given->nll,
        .gradient = given->gradient,
        .gradient_stride = given->gradient_stride,
        .scale = given->scale,
        .grad_scale = given->grad_scale,
    };

    if (given->shaping != NULL)
        job.shaping = *given->shaping;
    return job;
}

tally_status_t cuda_loss(struct device *device, const struct device_loss *given,
                         struct numeric_record *record, tally_stream_t stream)
{
    const enum kernel_element type = cuda_element(given->type);
    struct kernel_job job = job_of(given);
    bool entered;

    if (given->labels.tokens == 0)
        return TALLY_OK;
    tally_status_t status = cuda_enter(device, &entered);
    if (status != TALLY_OK)
        return status;
    job.record = record;
    status = given->columns.shards > 0
                 ? launch_columns(device, type, given, &job, stream)
                 : launch_loss(device, type, given, &job, stream);
    cuda_leave(device, entered);
    return status;
}

tally_status_t cuda_part(struct device *device, const struct device_loss *given,
                         tally_stream_t stream)
{
    struct kernel_job job = job_of(given);
    bool entered;

    if (given->labels.tokens == 0)
        return TALLY_OK;
    tally_status_t status = cuda_enter(device, &entered);
    if (status != TALLY_OK)
        return status;
    job.parts = given->columns.parts;
    status = launch_forward(device, cuda_element(given->type),
                            given->shaping != NULL, &job, stream);
    cuda_leave(device, entered);
    return status;
}
