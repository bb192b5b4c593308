// SPDX-License-Identifier: BSD-3-Clause
// What the emulator's files share: the cluster that runs, and who rests.
#ifndef KERNELS_SIMT_MACHINE_H
#define KERNELS_SIMT_MACHINE_H

#include <stddef.h>
#include <stdint.h>

#include <vector>

#include "kernels/gpu.h"
#include "kernels/simt/fiber.h"
#include "kernels/simt/simt.h"

#define WARP 32

namespace simt
{

// A place where threads wait until all of them have come.
struct meeting {
    int come = 0;
    int kind = 0;
    uint32_t turn = 0;
    std::vector<int> waiting;
};

struct warp {
    struct meeting meeting;
    uint32_t slots[2][WARP];
};

struct block {
    int index;
    int alive; // threads
    bool begun;
    char *shared;
    struct meeting barrier;
    std::vector<struct warp> warps;
};

// 8 bytes that a thread puts into a block.
struct put {
    int block; // whose shared memory it is for
    char *to;
    uint64_t bits;
    gpu_put_barrier *barrier;
};

// A word on its way to the host.
struct store {
    uint64_t *at;
    uint64_t word;
};

// 16 bytes on their way into shared memory.
struct copy {
    void *to;
    const void *from;
};

struct thread {
    struct fiber fiber;
    int block;        // of the cluster
    int index;        // in the block
    uint32_t arrived; // turns of the cluster's barrier it has arrived at
    bool depended;    // has waited for the kernel in front
    std::vector<struct copy> copies; // not waited for
};

struct machine {
    ~machine();
    struct fiber scheduler;
    std::vector<struct thread> threads;
    std::vector<struct block> blocks;
    std::vector<int> ready;
    std::vector<struct put> puts;
    std::vector<struct store> stores;
    std::vector<int> polling; // wait for puts
    struct meeting cluster;
    struct kernel_shape shape;
    bool early; // launched before the kernel in front has ended
    int cluster_index;
    int running;
    int alive;
    size_t pauses; // since the host thread slept
    uint64_t random;
    void (*kernel)(const void *);
    const void *params;
};

// A machine a host thread: its fibers stay with it.
extern thread_local struct machine machine;

[[noreturn]] void broken(const char *format, ...);
// At an address that is not a multiple of 16.
void aligned(const void *at);

struct thread &self();
struct block &my_block();
// Until somebody makes this thread ready.
void rest();
void wake(std::vector<int> *waiting);
// Ends the put under way that has this index.
void put_finish(size_t index);
// Ends the first store under way to where the one with this index goes.
void store_finish(size_t index);

} // namespace simt

#endif
