// SPDX-License-Identifier: BSD-3-Clause
// The inside of the CUDA device: the context, the kernels and their launch.
#ifndef DEVICE_CUDA_DEVICE_H
#define DEVICE_CUDA_DEVICE_H

#include "device/cuda/cuda.h"
#include "device/cuda/driver.h"
#include "kernels/launch.h"

enum cuda_kernel {
    CUDA_COUNT,
    CUDA_COUNT_PUBLISH,
    CUDA_PUBLISH,
    CUDA_WAIT,
    CUDA_CONTRIBUTE,
    CUDA_SETTLE,
    CUDA_MAXIMUM,
    CUDA_LOSS,                                              // of three types
    CUDA_LOSS_ROWS = CUDA_LOSS + KERNEL_ELEMENTS,           // the same but f32
    CUDA_BACKWARD = CUDA_LOSS_ROWS + KERNEL_ELEMENTS,       // of three types
    CUDA_LOSS_GRAD = CUDA_BACKWARD + KERNEL_ELEMENTS,       // the same
    CUDA_LOSS_GRAD_LONG = CUDA_LOSS_GRAD + KERNEL_ELEMENTS, // the same
    CUDA_MULTIPLY = CUDA_LOSS_GRAD_LONG + KERNEL_ELEMENTS,  // the same
    CUDA_LOSS_SHAPED = CUDA_MULTIPLY + KERNEL_ELEMENTS,     // the same
    CUDA_BACKWARD_SHAPED = CUDA_LOSS_SHAPED + KERNEL_ELEMENTS, // the same
    CUDA_FINISH = CUDA_BACKWARD_SHAPED + KERNEL_ELEMENTS,
    CUDA_FINISH_SHAPED,
    CUDA_KERNELS
};

struct device {
    const struct cuda_driver *driver;
    CUcontext context;
    CUdevice ordinal;
    bool retained; // the primary context, by us
    bool early;    // the kernels of a step's order are launched early
    CUmodule module;
    CUfunction kernels[CUDA_KERNELS];
    struct kernel_device shape;
};

// In the device's context, when nothing is under way. NULL: nothing.
void cuda_parts_free(struct device *device, struct cuda_parts *parts);

enum kernel_element cuda_element(tally_dtype_t type);
struct kernel_labels cuda_labels(const struct device_labels *labels);

// device_ops.count.
tally_status_t cuda_count(struct device *device,
                          const struct device_labels *labels,
                          struct numeric_record *record, tally_stream_t stream);
// device_ops.loss and part.
tally_status_t cuda_loss(struct device *device, const struct device_loss *given,
                         struct numeric_record *record, tally_stream_t stream);
tally_status_t cuda_part(struct device *device, const struct device_loss *given,
                         tally_stream_t stream);

// In the device's context. Nothing, where the shape has no blocks.
tally_status_t cuda_launch(struct device *device, enum cuda_kernel kernel,
                           const void *params, const struct kernel_shape *shape,
                           tally_stream_t stream);
// The same, in any context.
tally_status_t cuda_run(struct device *device, enum cuda_kernel kernel,
                        const void *params, const struct kernel_shape *shape,
                        tally_stream_t stream);

#endif
