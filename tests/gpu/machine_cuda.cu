// SPDX-License-Identifier: BSD-3-Clause
// A GPU as the machine, over the CUDA runtime.
#include <stdio.h>
#include <stdlib.h>

#include "gpu/launch_cuda.h"
#include "gpu/machine.h"
#include "kernels/tally.cu"

static void must(cudaError_t error, const char *what)
{
    if (error == cudaSuccess)
        return;
    fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
    exit(3);
}

#define JOBS(name)                                                             \
    {                                                                          \
        {(const void *)name##_f32, (const void *)name##_bf16,                  \
         (const void *)name##_f16},                                            \
        {                                                                      \
            (const void *)name##_f32_shaped, (const void *)name##_bf16_shaped, \
                (const void *)name##_f16_shaped                                \
        }                                                                      \
    }

#define PLAIN_JOBS(name)                                                       \
    {                                                                          \
        {(const void *)name##_f32, (const void *)name##_bf16,                  \
         (const void *)name##_f16},                                            \
        {                                                                      \
        }                                                                      \
    }

static const void *const jobs[][2][KERNEL_ELEMENTS] = {
    JOBS(tally_loss),
    {{NULL, (const void *)tally_loss_rows_bf16,
      (const void *)tally_loss_rows_f16},
     {}},
    PLAIN_JOBS(tally_loss_grad),
    PLAIN_JOBS(tally_loss_grad_long),
    JOBS(tally_backward),
    PLAIN_JOBS(tally_multiply)};

// Those before RUN_FINISH.
static const void *const singles[] = {
    (const void *)tally_count,      (const void *)tally_count_publish,
    (const void *)tally_publish,    (const void *)tally_wait,
    (const void *)tally_contribute, (const void *)tally_settle,
    (const void *)tally_maximum};

static const void *const finishes[2] = {(const void *)tally_finish,
                                        (const void *)tally_finish_shaped};

struct kernel_device machine_device()
{
    cudaDeviceProp properties;
    cudaFuncAttributes attributes;

    must(cudaGetDeviceProperties(&properties, 0), "the device's properties");
    must(cudaFuncGetAttributes(&attributes, tally_count), "a kernel");
    return {properties.multiProcessorCount,
            properties.major >= 9 && attributes.ptxVersion >= 90};
}

bool machine_is_emulated()
{
    return false;
}

void *machine_alloc(size_t bytes)
{
    void *memory = NULL;

    must(cudaMalloc(&memory, bytes > 0 ? bytes : 1), "cudaMalloc");
    return memory;
}

void machine_free(void *memory)
{
    must(cudaFree(memory), "cudaFree");
}

void machine_put(void *to, const void *from, size_t bytes)
{
    must(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice), "put");
}

void machine_get(void *to, const void *from, size_t bytes)
{
    must(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), "get");
}

void machine_allow(void *, size_t, bool)
{
}

void machine_fill(void *to, int value, size_t bytes)
{
    must(cudaMemset(to, value, bytes), "fill");
    must(cudaDeviceSynchronize(), "fill");
}

static __global__ void find_other(const unsigned char *from, int value,
                                  size_t bytes, unsigned long long *first)
{
    const size_t all = (size_t)gridDim.x * blockDim.x;

    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < bytes;
         i += all)
        if (from[i] != value) {
            atomicMin(first, (unsigned long long)i);
            return;
        }
}

size_t machine_differs(const void *from, int value, size_t bytes)
{
    unsigned long long first = bytes;
    unsigned long long *found = (unsigned long long *)machine_alloc(8);

    machine_put(found, &first, 8);
    find_other<<<4096, 256>>>((const unsigned char *)from, value, bytes, found);
    must(cudaGetLastError(), "launch");
    machine_get(&first, found, 8);
    machine_free(found);
    return (size_t)first;
}

void machine_run(const struct machine_kernel &kernel, const void *params,
                 size_t, const struct kernel_shape &shape, uint64_t)
{
    const void *entry =
        kernel.name < RUN_FINISH ? singles[kernel.name]
        : kernel.name == RUN_FINISH
            ? finishes[kernel.shaped]
            : jobs[kernel.name - RUN_LOSS][kernel.shaped][kernel.type];

    if (shape.blocks == 0)
        return;
    must(cudaFuncSetAttribute(entry,
                              cudaFuncAttributeMaxDynamicSharedMemorySize,
                              (int)shape.shared_bytes),
         "shared memory");
    must(launch_cuda(entry, params, shape), "launch");
    must(cudaDeviceSynchronize(), "kernel");
}

void machine_watch(void (*)(const uint64_t *))
{
}
