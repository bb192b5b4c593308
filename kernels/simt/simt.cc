// SPDX-License-Identifier: BSD-3-Clause
// The emulator: fibers of one cluster, and who waits for whom.
#include "kernels/simt/machine.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <vector>

#define SHARED_CANARY 0xa5

using namespace simt;

thread_local struct simt::machine simt::machine;

simt::machine::~machine()
{
    for (struct thread &thread : threads)
        if (thread.fiber.stack != NULL)
            fiber_free(&thread.fiber);
}

[[noreturn]] void simt::broken(const char *format, ...)
{
    va_list list;

    va_start(list, format);
    fprintf(stderr, "simt: ");
    vfprintf(stderr, format, list);
    fprintf(stderr, "\n");
    va_end(list);
    _Exit(3);
}

struct thread &simt::self()
{
    return machine.threads[machine.running];
}

struct block &simt::my_block()
{
    return machine.blocks[self().block];
}

void simt::rest()
{
    struct thread &me = self();

    fiber_switch(&me.fiber, &machine.scheduler);
}

void simt::wake(std::vector<int> *waiting)
{
    machine.ready.insert(machine.ready.end(), waiting->begin(), waiting->end());
    waiting->clear();
}

namespace
{

uint32_t random_below(uint32_t bound)
{
    machine.random += 0x9e3779b97f4a7c15u;
    uint64_t z = machine.random;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)(((z >> 32) * bound) >> 32);
}

// Comes to a meeting of `expected` threads for something of that kind.
void meet(struct meeting *meeting, int expected, int kind, const char *what)
{
    if (meeting->come > 0 && meeting->kind != kind)
        broken("threads of one warp do different things (%s)", what);
    meeting->kind = kind;
    if (++meeting->come < expected) {
        meeting->waiting.push_back(machine.running);
        rest();
        return;
    }
    meeting->come = 0;
    meeting->turn++;
    wake(&meeting->waiting);
    // Not always the last one goes on first.
    machine.ready.push_back(machine.running);
    rest();
}

enum { MEET_SHUFFLE, MEET_NEXT, MEET_LANE, MEET_BALLOT, MEET_BLOCK };

// All lanes' values, in the order of lanes.
const uint32_t *warp_exchange(uint32_t x, int kind)
{
    struct warp &warp = my_block().warps[self().index / WARP];
    uint32_t *slots = warp.slots[warp.meeting.turn % 2];

    slots[self().index % WARP] = x;
    meet(&warp.meeting, WARP, kind, "shuffle or vote");
    return slots;
}

void cluster_complete()
{
    if (machine.alive > 0 && machine.cluster.come < machine.alive)
        return;
    machine.cluster.come = 0;
    machine.cluster.turn++;
    wake(&machine.cluster.waiting);
}

void thread_main(void *argument)
{
    struct thread *thread = (struct thread *)argument;

    struct block &block = machine.blocks[thread->block];

    block.begun = true;
    thread->depended = false;
    machine.kernel(machine.params);
    if (machine.early && !thread->depended)
        broken("a thread never waits for the kernel in front of its own");
    if (!thread->copies.empty())
        broken("a thread never waits for what it copies");
    if (block.barrier.come > 0)
        broken("a thread ends while others wait for it in a block barrier");
    if (thread->arrived > machine.cluster.turn)
        machine.cluster.come--;
    block.alive--;
    machine.alive--;
    if (machine.cluster.come > 0)
        cluster_complete();
    fiber_switch(&thread->fiber, &machine.scheduler);
}

void shared_check(const struct block &block)
{
    // Under the address sanitizer malloc's own guards come first.
    for (int i = 0; i < 64; i++)
        if ((unsigned char)block.shared[machine.shape.shared_bytes + i] !=
            SHARED_CANARY)
            broken("block %d wrote past its shared memory", block.index);
}

// Whether a thread of another block can go on.
bool others_run(int block)
{
    for (int i : machine.ready)
        if (machine.threads[i].block != block)
            return true;
    return false;
}

bool other_warps_run(int warp)
{
    for (int i : machine.ready)
        if (i / WARP != warp)
            return true;
    return false;
}

void cluster_run(int index)
{
    const int threads = (int)machine.shape.threads;
    const int size = (int)machine.shape.cluster;

    machine.cluster_index = index;
    machine.cluster = {};
    machine.alive = size * threads;
    for (int b = 0; b < size; b++) {
        struct block &block = machine.blocks[b];
        block.index = index * size + b;
        block.alive = threads;
        block.begun = false;
        block.barrier = {};
        block.warps.assign((size_t)threads / WARP, {});
        memset(block.shared, SHARED_CANARY, machine.shape.shared_bytes + 64);
    }
    for (int i = 0; i < size * threads; i++) {
        struct thread &thread = machine.threads[i];
        thread.block = i / threads;
        thread.index = i % threads;
        thread.arrived = 0;
        if (thread.fiber.stack == NULL)
            fiber_create(&thread.fiber, thread_main, &thread);
        else
            fiber_rewind(&thread.fiber);
        machine.ready.push_back(i);
    }
    // One block, or none, begins when the others can do nothing without it, and
    // from then on is far behind them, as is what is put into it.
    const int slow = (int)random_below((uint32_t)size + 1);
    // Of a block by itself one warp, or none, is behind the others.
    const int warps = threads / WARP;
    const int slow_warp =
        size == 1 ? (int)random_below((uint32_t)warps + 1) : size * warps;
    while (!machine.ready.empty() || !machine.puts.empty() ||
           !machine.stores.empty()) {
        if (!machine.stores.empty() &&
            (machine.ready.empty() || random_below(4) == 0)) {
            store_finish(random_below((uint32_t)machine.stores.size()));
            continue;
        }
        if (!machine.puts.empty() &&
            (machine.ready.empty() || random_below(64) == 0)) {
            size_t put = random_below((uint32_t)machine.puts.size());
            if (machine.puts[put].block != slow || !others_run(slow) ||
                random_below(256) == 0)
                put_finish(put);
            continue;
        }
        size_t pick = random_below((uint32_t)machine.ready.size());
        machine.running = machine.ready[pick];
        if (self().block == slow && others_run(slow) &&
            (!my_block().begun || random_below(256) != 0))
            continue;
        if (machine.running / WARP == slow_warp && random_below(64) != 0 &&
            other_warps_run(slow_warp))
            continue;
        machine.ready[pick] = machine.ready.back();
        machine.ready.pop_back();
        fiber_switch(&machine.scheduler, &self().fiber);
    }
    if (machine.alive > 0)
        broken("%d threads of cluster %d wait for ever", machine.alive, index);
    for (int b = 0; b < size; b++)
        shared_check(machine.blocks[b]);
}

} // namespace

void simt_launch(void (*kernel)(const void *), const void *params,
                 const struct kernel_shape &shape, uint64_t seed)
{
    const size_t all = (size_t)shape.cluster * shape.threads;
    std::vector<int> order(shape.blocks / shape.cluster);

    if (shape.blocks % shape.cluster != 0 || shape.threads % WARP != 0 ||
        shape.threads > 1024 || shape.cluster > 16)
        broken("%u blocks of %u threads in clusters of %u", shape.blocks,
               shape.threads, shape.cluster);
    fiber_adopt(&machine.scheduler);
    machine.random = seed;
    machine.kernel = kernel;
    machine.params = params;
    machine.shape = shape;
    if (machine.threads.size() < all) { // fibers know where their thread is
        for (struct thread &thread : machine.threads)
            if (thread.fiber.stack != NULL)
                fiber_free(&thread.fiber);
        machine.threads.assign(all, {});
    }
    machine.blocks.resize(shape.cluster);
    for (struct block &block : machine.blocks)
        block.shared =
            (char *)aligned_alloc(128, (shape.shared_bytes + 64 + 127) & ~127u);
    for (size_t i = 0; i < order.size(); i++)
        order[i] = (int)i;
    for (size_t i = order.size(); i > 1; i--)
        std::swap(order[i - 1], order[random_below((uint32_t)i)]);
    for (int index : order)
        cluster_run(index);
    for (struct block &block : machine.blocks)
        free(block.shared);
    machine.blocks.clear();
}

// --------------------------------------------------------- what gpu.h promises

int gpu_thread()
{
    return self().index;
}
int gpu_threads()
{
    return (int)machine.shape.threads;
}
int gpu_block()
{
    return my_block().index;
}
int gpu_blocks()
{
    return (int)machine.shape.blocks;
}
int gpu_cluster_size()
{
    return (int)machine.shape.cluster;
}
int gpu_cluster_rank()
{
    return self().block;
}
char *gpu_shared()
{
    return my_block().shared;
}

uint32_t gpu_shuffle_xor(uint32_t x, int mask)
{
    int from = (self().index % WARP) ^ mask;

    return warp_exchange(x, MEET_SHUFFLE + 16 * mask)[from];
}

float gpu_shuffle_xor(float x, int mask)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    bits = gpu_shuffle_xor(bits, mask);
    memcpy(&x, &bits, sizeof(x));
    return x;
}

uint32_t gpu_shuffle_next(uint32_t x)
{
    int from = std::min(self().index % WARP + 1, WARP - 1);

    return warp_exchange(x, MEET_NEXT)[from];
}

uint32_t gpu_shuffle(uint32_t x, int lane)
{
    return warp_exchange(x, MEET_LANE)[lane % WARP];
}

uint32_t gpu_ballot(bool vote)
{
    const uint32_t *all = warp_exchange(vote, MEET_BALLOT);
    uint32_t votes = 0;

    for (int i = 0; i < WARP; i++)
        votes |= all[i] << i;
    return votes;
}

void gpu_block_barrier()
{
    meet(&my_block().barrier, (int)machine.shape.threads, MEET_BLOCK,
         "block barrier");
}

void gpu_cluster_arrive()
{
    if (self().arrived != machine.cluster.turn)
        broken("a thread arrives twice at a cluster barrier");
    self().arrived++;
    machine.cluster.come++;
    cluster_complete();
}

void gpu_cluster_wait()
{
    while (self().arrived > machine.cluster.turn) {
        machine.cluster.waiting.push_back(machine.running);
        rest();
    }
}

void *simt_remote(void *at, int rank)
{
    long offset = (char *)at - my_block().shared;

    if (offset < 0 || offset >= (long)machine.shape.shared_bytes || rank < 0 ||
        rank >= (int)machine.shape.cluster)
        broken("place %ld of block %d of the cluster", offset, rank);
    if (!machine.blocks[rank].begun)
        broken("block %d has not begun", rank);
    if (machine.blocks[rank].alive == 0)
        broken("block %d is gone", rank);
    return machine.blocks[rank].shared + offset;
}

void gpu_atomic_add(int64_t *at, int64_t x)
{
    __atomic_fetch_add(at, x, __ATOMIC_RELAXED); // other streams do, too
}

void simt::aligned(const void *at)
{
    if ((uintptr_t)at % sizeof(gpu_vector) != 0)
        broken("16 bytes at %p, which is not aligned", at);
}

gpu_vector gpu_load(const void *at)
{
    aligned(at);
    return *(const gpu_vector *)at;
}

void gpu_store(void *at, const gpu_vector &v)
{
    aligned(at);
    *(gpu_vector *)at = v;
}
