// SPDX-License-Identifier: BSD-3-Clause
// The CUDA device: context, kernels, and what they are launched with.
#include "device/cuda/device.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "kernels/fatbin.h"

// That a launch may come before the end of the one in front, captured too.
#define EARLY_VERSION 12030

static const char *const kernel_names[CUDA_KERNELS] = {
    [CUDA_COUNT] = "tally_count",
    [CUDA_COUNT_PUBLISH] = "tally_count_publish",
    [CUDA_PUBLISH] = "tally_publish",
    [CUDA_WAIT] = "tally_wait",
    [CUDA_CONTRIBUTE] = "tally_contribute",
    [CUDA_SETTLE] = "tally_settle",
    [CUDA_MAXIMUM] = "tally_maximum",
    [CUDA_LOSS + KERNEL_F32] = "tally_loss_f32",
    [CUDA_LOSS + KERNEL_BF16] = "tally_loss_bf16",
    [CUDA_LOSS + KERNEL_F16] = "tally_loss_f16",
    [CUDA_LOSS_ROWS + KERNEL_BF16] = "tally_loss_rows_bf16",
    [CUDA_LOSS_ROWS + KERNEL_F16] = "tally_loss_rows_f16",
    [CUDA_BACKWARD + KERNEL_F32] = "tally_backward_f32",
    [CUDA_BACKWARD + KERNEL_BF16] = "tally_backward_bf16",
    [CUDA_BACKWARD + KERNEL_F16] = "tally_backward_f16",
    [CUDA_LOSS_GRAD + KERNEL_F32] = "tally_loss_grad_f32",
    [CUDA_LOSS_GRAD + KERNEL_BF16] = "tally_loss_grad_bf16",
    [CUDA_LOSS_GRAD + KERNEL_F16] = "tally_loss_grad_f16",
    [CUDA_LOSS_GRAD_LONG + KERNEL_F32] = "tally_loss_grad_long_f32",
    [CUDA_LOSS_GRAD_LONG + KERNEL_BF16] = "tally_loss_grad_long_bf16",
    [CUDA_LOSS_GRAD_LONG + KERNEL_F16] = "tally_loss_grad_long_f16",
    [CUDA_MULTIPLY + KERNEL_F32] = "tally_multiply_f32",
    [CUDA_MULTIPLY + KERNEL_BF16] = "tally_multiply_bf16",
    [CUDA_MULTIPLY + KERNEL_F16] = "tally_multiply_f16",
    [CUDA_LOSS_SHAPED + KERNEL_F32] = "tally_loss_f32_shaped",
    [CUDA_LOSS_SHAPED + KERNEL_BF16] = "tally_loss_bf16_shaped",
    [CUDA_LOSS_SHAPED + KERNEL_F16] = "tally_loss_f16_shaped",
    [CUDA_BACKWARD_SHAPED + KERNEL_F32] = "tally_backward_f32_shaped",
    [CUDA_BACKWARD_SHAPED + KERNEL_BF16] = "tally_backward_bf16_shaped",
    [CUDA_BACKWARD_SHAPED + KERNEL_F16] = "tally_backward_f16_shaped",
    [CUDA_FINISH] = "tally_finish",
    [CUDA_FINISH_SHAPED] = "tally_finish_shaped",
};

tally_status_t cuda_enter(struct device *device, bool *entered)
{
    CUcontext current = NULL;
    CUresult error = device->driver->cuCtxGetCurrent(&current);

    *entered = error == CUDA_SUCCESS && current != device->context;
    if (*entered)
        error = device->driver->cuCtxPushCurrent_v2(device->context);
    return error == CUDA_SUCCESS
               ? TALLY_OK
               : cuda_driver_fail(device->driver, "cuCtxPushCurrent", error);
}

void cuda_leave(struct device *device, bool entered)
{
    CUcontext context;

    if (entered)
        device->driver->cuCtxPopCurrent_v2(&context);
}

// The context that the host program works in; if it has none yet, the one that
// CUDA's runtime would take.
static tally_status_t find_context(struct device *device)
{
    const struct cuda_driver *driver = device->driver;
    CUresult error = driver->cuCtxGetCurrent(&device->context);

    if (error == CUDA_SUCCESS && device->context != NULL)
        error = driver->cuCtxGetDevice(&device->ordinal);
    else if (error == CUDA_SUCCESS) {
        error = driver->cuDeviceGet(&device->ordinal, 0);
        if (error == CUDA_SUCCESS)
            error = driver->cuDevicePrimaryCtxRetain(&device->context,
                                                     device->ordinal);
        device->retained = error == CUDA_SUCCESS;
    }
    return error == CUDA_SUCCESS
               ? TALLY_OK
               : cuda_driver_fail(driver, "no CUDA context", error);
}

static tally_status_t find_shape(struct device *device)
{
    const struct cuda_driver *driver = device->driver;
    int multiprocessors = 0;
    int major = 0;
    CUresult error = driver->cuDeviceGetAttribute(
        &multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
        device->ordinal);

    if (error == CUDA_SUCCESS)
        error = driver->cuDeviceGetAttribute(
            &major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            device->ordinal);
    if (error != CUDA_SUCCESS)
        return cuda_driver_fail(driver, "cuDeviceGetAttribute", error);
    device->shape.multiprocessors = multiprocessors;
    device->shape.clusters = major >= 9;
    device->early = major >= 9 && driver->version >= EARLY_VERSION;
    return TALLY_OK;
}

// All at once: what is loaded lazily would be loaded in mid-step.
static tally_status_t load_kernels(struct device *device)
{
    const struct cuda_driver *driver = device->driver;

    if (kernels_fatbin.image == NULL)
        return core_fail(TALLY_ERR_UNSUPPORTED,
                         "this build has no CUDA kernels (no nvcc)");
    CUresult error =
        driver->cuModuleLoadData(&device->module, kernels_fatbin.image);
    if (error != CUDA_SUCCESS)
        return cuda_driver_fail(driver, "cuModuleLoadData", error);
    for (int i = 0; i < CUDA_KERNELS; i++) {
        if (kernel_names[i] == NULL) // not of that type
            continue;
        error = driver->cuModuleGetFunction(&device->kernels[i], device->module,
                                            kernel_names[i]);
        if (error != CUDA_SUCCESS)
            return cuda_driver_fail(driver, kernel_names[i], error);
    }
    return TALLY_OK;
}

static void cuda_close(struct device *device)
{
    bool entered;

    if (device->context != NULL && cuda_enter(device, &entered) == TALLY_OK) {
        if (device->module != NULL)
            device->driver->cuModuleUnload(device->module);
        cuda_leave(device, entered);
    }
    if (device->retained)
        device->driver->cuDevicePrimaryCtxRelease_v2(device->ordinal);
    free(device);
}

static tally_status_t cuda_open(const struct device_params *params,
                                struct device **out)
{
    bool entered;
    struct device *device = calloc(1, sizeof(*device));

    (void)params;
    if (device == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for the CUDA device");
    tally_status_t status = cuda_driver_open(&device->driver);
    if (status == TALLY_OK)
        status = find_context(device);
    if (status == TALLY_OK)
        status = find_shape(device);
    if (status == TALLY_OK)
        status = cuda_enter(device, &entered);
    if (status == TALLY_OK) {
        status = load_kernels(device);
        cuda_leave(device, entered);
    }
    if (status != TALLY_OK) {
        cuda_close(device);
        return status;
    }
    *out = device;
    return TALLY_OK;
}

#define ATTRIBUTES_MAX 3

// A cluster goes where there is room soonest, which by default it need not. The
// kernels before CUDA_LOSS are short: their launch would take longer than
// they do. They begin with gpu_dependency_wait().
static unsigned int attributes_of(const struct device *device,
                                  enum cuda_kernel kernel,
                                  const struct kernel_shape *shape,
                                  CUlaunchAttribute attributes[ATTRIBUTES_MAX])
{
    unsigned int count = 0;

    if (shape->cluster > 1) {
        attributes[count++] = (CUlaunchAttribute){
            .id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
            .value.clusterDim = {shape->cluster, 1, 1},
        };
        attributes[count++] = (CUlaunchAttribute){
            .id = CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE,
            .value.clusterSchedulingPolicyPreference =
                CU_CLUSTER_SCHEDULING_POLICY_LOAD_BALANCING,
        };
    }
    if (device->early && kernel < CUDA_LOSS)
        attributes[count++] = (CUlaunchAttribute){
            .id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            .value.programmaticStreamSerializationAllowed = 1,
        };
    return count;
}

tally_status_t cuda_launch(struct device *device, enum cuda_kernel kernel,
                           const void *params, const struct kernel_shape *shape,
                           tally_stream_t stream)
{
    CUlaunchAttribute attributes[ATTRIBUTES_MAX];
    CUlaunchConfig config = {
        .gridDimX = shape->blocks,
        .gridDimY = 1,
        .gridDimZ = 1,
        .blockDimX = shape->threads,
        .blockDimY = 1,
        .blockDimZ = 1,
        .sharedMemBytes = shape->shared_bytes,
        .hStream = stream,
        .attrs = attributes,
        .numAttrs = attributes_of(device, kernel, shape, attributes),
    };
    void *parameters[1];

    if (shape->blocks == 0)
        return TALLY_OK;
    memcpy(parameters, &params, sizeof(params));
    CUresult error = device->driver->cuLaunchKernelEx(
        &config, device->kernels[kernel], parameters, NULL);
    return error == CUDA_SUCCESS
               ? TALLY_OK
               : cuda_driver_fail(device->driver, kernel_names[kernel], error);
}

tally_status_t cuda_run(struct device *device, enum cuda_kernel kernel,
                        const void *params, const struct kernel_shape *shape,
                        tally_stream_t stream)
{
    bool entered;
    tally_status_t status = cuda_enter(device, &entered);

    if (status != TALLY_OK)
        return status;
    status = cuda_launch(device, kernel, params, shape, stream);
    cuda_leave(device, entered);
    return status;
}

enum kernel_element cuda_element(tally_dtype_t type)
{
    return type == TALLY_F32    ? KERNEL_F32
           : type == TALLY_BF16 ? KERNEL_BF16
                                : KERNEL_F16;
}

struct kernel_labels cuda_labels(const struct device_labels *labels)
{
    return (struct kernel_labels){
        .values = labels->values,
        .weights = labels->weights,
        .tokens = labels->tokens,
        .vocab = labels->vocab,
        .ignore_index = labels->ignore_index,
        .wide = labels->type == TALLY_I64,
    };
}

tally_status_t cuda_count(struct device *device,
                          const struct device_labels *labels,
                          struct numeric_record *record, tally_stream_t stream)
{
    struct kernel_count count = {cuda_labels(labels), record};
    struct kernel_shape shape =
        kernel_count_shape(&device->shape, labels->tokens);

    return cuda_run(device, CUDA_COUNT, &count, &shape, stream);
}

static tally_status_t cuda_multiply(struct device *device,
                                    const struct device_multiply *given,
                                    tally_stream_t stream)
{
    struct kernel_multiply job = {given->values, given->elements,
                                  given->factor};
    struct kernel_shape shape =
        kernel_multiply_shape(&device->shape, given->elements);

    return cuda_run(device, CUDA_MULTIPLY + cuda_element(given->type), &job,
                    &shape, stream);
}

const struct device_ops device_cuda_ops = {
    .size = sizeof(struct device_ops),
    .name = "cuda",
    .open = cuda_open,
    .close = cuda_close,
    .count = cuda_count,
    .loss = cuda_loss,
    .part = cuda_part,
    .multiply = cuda_multiply,
};
