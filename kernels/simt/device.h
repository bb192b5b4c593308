// SPDX-License-Identifier: BSD-3-Clause
// What gpu.h promises, on the CPU. A thread of the GPU is a fiber, run in an
// order that a seed decides; it changes places with others only here.
#ifndef KERNELS_SIMT_DEVICE_H
#define KERNELS_SIMT_DEVICE_H

#include <stdint.h>

#define GPU_FN inline
#define GPU_CLUSTERS 1
// A mutant's build may rename the kernels.
#define GPU_KERNEL(threads, blocks, name, params) void name(const params)

int gpu_thread();
int gpu_threads();
int gpu_block();
int gpu_blocks();
int gpu_cluster_size();
int gpu_cluster_rank();
char *gpu_shared();

float gpu_shuffle_xor(float x, int mask);
uint32_t gpu_shuffle_xor(uint32_t x, int mask);
uint32_t gpu_shuffle_next(uint32_t x);
uint32_t gpu_shuffle(uint32_t x, int lane);
uint32_t gpu_ballot(bool vote);
void gpu_block_barrier();
void gpu_cluster_arrive();
void gpu_cluster_wait();
void *simt_remote(void *at, int rank);
template <class T> T *gpu_remote(T *at, int rank)
{
    return (T *)simt_remote((void *)at, rank);
}

void gpu_atomic_add(int64_t *at, int64_t x);
void gpu_atomic_max(int64_t *at, int64_t x);
uint64_t gpu_arrive(uint64_t *at);
void gpu_store_system(uint64_t *at, uint64_t x);
void gpu_store_system(uint64_t *at, uint64_t x, uint64_t next);
uint64_t gpu_load_system(const uint64_t *at);
uint64_t gpu_nanoseconds();
void gpu_dependency_wait();
void gpu_dependents_launch();
void gpu_pause();
float gpu_exp2(float x);
float gpu_reciprocal(float x);
gpu_vector gpu_load(const void *at);
void gpu_store(void *at, const gpu_vector &v);
void gpu_copy(void *to, const void *from);
void gpu_copy_wait();
gpu_vector gpu_load_shared(const void *at);
int gpu_lowest_bit(uint32_t bits);
uint32_t gpu_funnel(uint32_t low, uint32_t high, int shift);
uint32_t gpu_max_bf16(uint32_t a, uint32_t b);
uint32_t gpu_max_f16(uint32_t a, uint32_t b);
float gpu_float_of_f16(uint16_t half);
uint32_t gpu_bf16_pair(float low, float high);
uint32_t gpu_f16_pair(float low, float high);

struct gpu_put_barrier {
    int32_t bytes; // still to come
    int32_t made;  // a number that says that it was initialised
};

void gpu_put_barrier_init(gpu_put_barrier *barrier, int bytes);
void gpu_put(void *to, uint64_t bits, gpu_put_barrier *barrier, int rank);
void gpu_put_wait(gpu_put_barrier *barrier);

#endif
