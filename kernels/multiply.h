// SPDX-License-Identifier: BSD-3-Clause
// A gradient times what follows the loss. That is 1 in most backwards: then
// each thread reads the factor and ends.
#ifndef KERNELS_MULTIPLY_H
#define KERNELS_MULTIPLY_H

#include "element.h"
#include "kernels/launch.h"

// By value, also at an address that no vector may have.
template <class E> GPU_FN void multiply_one(char *at, float factor)
{
    float all[E::count] = {E::load(at) * factor};
    gpu_vector v;

    E::pack(all, &v);
    memcpy(at, &v, E::bytes);
}

template <class E> GPU_FN void multiply_vector(char *at, float factor)
{
    float x[E::count];
    gpu_vector v = gpu_load(at);

    E::unpack(v, x);
#pragma unroll
    for (int k = 0; k < E::count; k++)
        x[k] *= factor;
    E::pack(x, &v);
    gpu_store(at, v);
}

template <class E> GPU_FN void multiply_all(const struct kernel_multiply &job)
{
    const float factor = *job.factor;
    const int64_t all = (int64_t)gpu_blocks() * gpu_threads();
    const int64_t first = (int64_t)gpu_block() * gpu_threads() + gpu_thread();
    char *values = (char *)job.values;
    const bool aligned = (uintptr_t)values % sizeof(gpu_vector) == 0;
    const int64_t vectors = aligned ? job.elements / E::count : 0;

    if (factor == 1)
        return;
#pragma unroll 4
    for (int64_t i = first; i < vectors; i += all)
        multiply_vector<E>(values + i * (int64_t)sizeof(gpu_vector), factor);
    for (int64_t i = vectors * E::count + first; i < job.elements; i += all)
        multiply_one<E>(values + i * E::bytes, factor);
}

#endif
