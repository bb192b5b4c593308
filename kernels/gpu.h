// SPDX-License-Identifier: BSD-3-Clause
// The GPU as the kernels see it: threads, warps, blocks, clusters, and what
// they share. With nvcc these are single instructions; without it the emulator
// in simt/ does the same on the CPU.
#ifndef KERNELS_GPU_H
#define KERNELS_GPU_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define GPU_WARP 32

// 16 bytes: what a thread loads and stores at once.
struct alignas(16) gpu_vector {
    uint32_t word[4];
};

#ifndef __CUDACC__
#include "simt/device.h"
#else

#define GPU_FN __device__ __forceinline__
// A kernel for blocks of up to `threads`, `blocks` of them on a multiprocessor.
#define GPU_KERNEL(threads, blocks, name, params)                              \
    extern "C" __global__ void __launch_bounds__(threads, blocks)              \
        name(const __grid_constant__ params)

GPU_FN int gpu_thread()
{
    return (int)threadIdx.x;
}
GPU_FN int gpu_threads()
{
    return (int)blockDim.x;
}
GPU_FN int gpu_block()
{
    return (int)blockIdx.x;
}
GPU_FN int gpu_blocks()
{
    return (int)gridDim.x;
}

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define GPU_CLUSTERS 1
#else
#define GPU_CLUSTERS 0
#endif

GPU_FN int gpu_cluster_size()
{
#if GPU_CLUSTERS
    int size;
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
    return size;
#else
    return 1;
#endif
}

GPU_FN int gpu_cluster_rank()
{
#if GPU_CLUSTERS
    int rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
#else
    return 0;
#endif
}

// The block's shared memory, aligned to 128 bytes.
GPU_FN char *gpu_shared()
{
    extern __shared__ __align__(128) char gpu_shared_memory[];
    return gpu_shared_memory;
}

GPU_FN float gpu_shuffle_xor(float x, int mask)
{
    return __shfl_xor_sync(~0u, x, mask);
}

GPU_FN uint32_t gpu_shuffle_xor(uint32_t x, int mask)
{
    return __shfl_xor_sync(~0u, x, mask);
}

// Of the next lane; the last one gets its own.
GPU_FN uint32_t gpu_shuffle_next(uint32_t x)
{
    return __shfl_down_sync(~0u, x, 1);
}

// Of that lane.
GPU_FN uint32_t gpu_shuffle(uint32_t x, int lane)
{
    return __shfl_sync(~0u, x, lane);
}

GPU_FN uint32_t gpu_ballot(bool vote)
{
    return __ballot_sync(~0u, vote);
}

// The index of the lowest bit that is set; one is.
GPU_FN int gpu_lowest_bit(uint32_t bits)
{
    return __ffs((int)bits) - 1;
}

GPU_FN void gpu_block_barrier()
{
    __syncthreads();
}

GPU_FN void gpu_cluster_arrive()
{
#if GPU_CLUSTERS
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}

GPU_FN void gpu_cluster_wait()
{
#if GPU_CLUSTERS
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

// The place of `at`, which is in this block's shared memory, in another's.
template <class T> GPU_FN T *gpu_remote(T *at, int rank)
{
#if GPU_CLUSTERS
    uint64_t remote;
    asm("mapa.u64 %0, %1, %2;" : "=l"(remote) : "l"(at), "r"(rank));
    return (T *)remote;
#else
    return at;
#endif
}

GPU_FN void gpu_atomic_add(int64_t *at, int64_t x)
{
    atomicAdd((unsigned long long *)at, (unsigned long long)x);
}

GPU_FN void gpu_atomic_max(int64_t *at, int64_t x)
{
    atomicMax((long long *)at, (long long)x);
}

// Counts who has come, and returns how many had before: whoever finds that all
// others have sees what they did.
GPU_FN uint64_t gpu_arrive(uint64_t *at)
{
    __threadfence();
    const uint64_t before = atomicAdd((unsigned long long *)at, 1ull);
    __threadfence();
    return before;
}

// Memory that the host sees, in words of 8 bytes. They come there one by one,
// in any order: no fence is one way to the host and back less. Two words that
// lie beside each other, at a multiple of 16, are stored as soon as one.
GPU_FN void gpu_store_system(uint64_t *at, uint64_t x)
{
    asm volatile("st.relaxed.sys.global.u64 [%0], %1;" ::"l"(at), "l"(x)
                 : "memory");
}

GPU_FN void gpu_store_system(uint64_t *at, uint64_t x, uint64_t next)
{
    asm volatile("st.relaxed.sys.global.v2.u64 [%0], {%1, %2};" ::"l"(at),
                 "l"(x), "l"(next)
                 : "memory");
}

GPU_FN uint64_t gpu_load_system(const uint64_t *at)
{
    uint64_t x;
    asm volatile("ld.relaxed.sys.global.u64 %0, [%1];"
                 : "=l"(x)
                 : "l"(at)
                 : "memory");
    return x;
}

GPU_FN uint64_t gpu_nanoseconds()
{
    uint64_t now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)::"memory");
    return now;
}

// A kernel may be launched before the one in front of it in the stream has
// ended (programmatic dependent launch; CUDA Programming Guide). All threads
// call this before they touch any memory: that one has ended then, and what it
// wrote is there.
GPU_FN void gpu_dependency_wait()
{
#if GPU_CLUSTERS
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The kernel behind this one may be launched once all threads have called this
// or are gone: it waits on its multiprocessor, so not long before the end.
GPU_FN void gpu_dependents_launch()
{
#if GPU_CLUSTERS
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Between two looks at memory that somebody else writes.
GPU_FN void gpu_pause()
{
    __nanosleep(20);
}

// 2^x within 2 units in the last place; denormal results are 0.
GPU_FN float gpu_exp2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// 1 / x within 1 unit in the last place.
GPU_FN float gpu_reciprocal(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Memory that is read or written once, and all the same in the usual way: where
// caches are asked to give up such lines first (ld.cs, st.cs, or by a policy of
// L2), a loss with its gradient takes longer (doc/kernels.md). As they stand:
// the compiler would put loads off to where they are used.
GPU_FN gpu_vector gpu_load(const void *at)
{
    gpu_vector x;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.word[0]), "=r"(x.word[1]), "=r"(x.word[2]),
                   "=r"(x.word[3])
                 : "l"(__cvta_generic_to_global(at))
                 : "memory");
    return x;
}

GPU_FN void gpu_store(void *at, const gpu_vector &v)
{
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(
                     __cvta_generic_to_global(at)),
                 "r"(v.word[0]), "r"(v.word[1]), "r"(v.word[2]), "r"(v.word[3])
                 : "memory");
}

GPU_FN uint32_t gpu_shared_address(const void *at)
{
    return (uint32_t)__cvta_generic_to_shared(at);
}

// 16 bytes of memory into shared memory, without a register: there for this
// thread once it has waited for all of its copies.
GPU_FN void gpu_copy(void *to, const void *from)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                     gpu_shared_address(to)),
                 "l"(__cvta_generic_to_global(from))
                 : "memory");
}

GPU_FN void gpu_copy_wait()
{
    asm volatile("cp.async.wait_all;" ::: "memory");
}

// Of shared memory, each time anew: the compiler would keep in registers what
// it has read.
GPU_FN gpu_vector gpu_load_shared(const void *at)
{
    gpu_vector x;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.word[0]), "=r"(x.word[1]), "=r"(x.word[2]),
                   "=r"(x.word[3])
                 : "r"(gpu_shared_address(at))
                 : "memory");
    return x;
}

// The bits from `shift` on of high:low; shift < 32.
GPU_FN uint32_t gpu_funnel(uint32_t low, uint32_t high, int shift)
{
    return __funnelshift_r(low, high, (unsigned)shift);
}

// The larger ones of two bfloat16 or binary16 each, numbers before NaN.
GPU_FN uint32_t gpu_max_bf16(uint32_t a, uint32_t b)
{
    asm("max.bf16x2 %0, %1, %2;" : "=r"(a) : "r"(a), "r"(b));
    return a;
}

GPU_FN uint32_t gpu_max_f16(uint32_t a, uint32_t b)
{
    asm("max.f16x2 %0, %1, %2;" : "=r"(a) : "r"(a), "r"(b));
    return a;
}

GPU_FN float gpu_float_of_f16(uint16_t half)
{
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(half));
    return x;
}

// To nearest even, `low` in the lower half.
GPU_FN uint32_t gpu_bf16_pair(float low, float high)
{
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

GPU_FN uint32_t gpu_f16_pair(float low, float high)
{
    uint32_t pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

// ------------------------------- from block to block, where clusters are. A
// barrier counts bytes, once.
typedef uint64_t gpu_put_barrier;

// By one thread, before a cluster barrier: so many bytes are to come.
GPU_FN void gpu_put_barrier_init(gpu_put_barrier *barrier, int bytes)
{
#if GPU_CLUSTERS
    asm volatile("mbarrier.init.shared.b64 [%0], 1;\n\t"
                 "fence.mbarrier_init.release.cluster;\n\t"
                 "mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(
                     gpu_shared_address(barrier)),
                 "r"(bytes)
                 : "memory");
#endif
}

// 8 bytes into the shared memory of a block of the cluster. They count as bytes
// that have come for the barrier there; whoever has waited for it sees them.
// Nothing else is ordered by this.
GPU_FN void gpu_put(void *to, uint64_t bits, gpu_put_barrier *barrier, int rank)
{
#if GPU_CLUSTERS
    asm volatile(
        "{\n\t.reg .b32 to, barrier;\n\t"
        "mapa.shared::cluster.u32 to, %0, %3;\n\t"
        "mapa.shared::cluster.u32 barrier, %2, %3;\n\t"
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.b64 [to], %1, "
        "[barrier];\n\t}" ::"r"(gpu_shared_address(to)),
        "l"(bits), "r"(gpu_shared_address(barrier)), "r"(rank)
        : "memory");
#endif
}

// Until all bytes have come.
GPU_FN void gpu_put_wait(gpu_put_barrier *barrier)
{
#if GPU_CLUSTERS
    asm volatile("{\n\t.reg .pred done;\n"
                 "WAIT:\n\t"
                 "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 "
                 "done, [%0], 0;\n\t"
                 "@done bra DONE;\n\tbra WAIT;\n"
                 "DONE:\n\t}" ::"r"(gpu_shared_address(barrier))
                 : "memory");
#endif
}

#endif

GPU_FN double gpu_shuffle_xor(double x, int mask)
{
    uint32_t half[2];

    memcpy(half, &x, sizeof(x));
    half[0] = gpu_shuffle_xor(half[0], mask);
    half[1] = gpu_shuffle_xor(half[1], mask);
    memcpy(&x, half, sizeof(x));
    return x;
}

GPU_FN int gpu_lane()
{
    return gpu_thread() % GPU_WARP;
}
GPU_FN int gpu_warp()
{
    return gpu_thread() / GPU_WARP;
}

#endif
