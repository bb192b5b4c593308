// SPDX-License-Identifier: BSD-3-Clause
// Launches a kernel over the CUDA runtime as the library does over the driver
// (src/device/cuda/device.c): for tests and benchmarks.
#ifndef GPU_LAUNCH_CUDA_H
#define GPU_LAUNCH_CUDA_H

#include "kernels/launch.h"

// On the default stream; params: of the host.
static inline cudaError_t launch_cuda(const void *kernel, const void *params,
                                      const struct kernel_shape &shape)
{
    void *arguments[] = {(void *)params};
    cudaLaunchAttribute attributes[2] = {};
    cudaLaunchConfig_t config = {};

    attributes[0].id = cudaLaunchAttributeClusterDimension;
    attributes[0].val.clusterDim.x = shape.cluster;
    attributes[0].val.clusterDim.y = 1;
    attributes[0].val.clusterDim.z = 1;
    attributes[1].id = cudaLaunchAttributeClusterSchedulingPolicyPreference;
    attributes[1].val.clusterSchedulingPolicyPreference =
        cudaClusterSchedulingPolicyLoadBalancing;
    config.gridDim = dim3(shape.blocks);
    config.blockDim = dim3(shape.threads);
    config.dynamicSmemBytes = shape.shared_bytes;
    config.attrs = attributes;
    config.numAttrs = shape.cluster > 1 ? 2 : 0;
    return cudaLaunchKernelExC(&config, kernel, arguments);
}

#endif
