// SPDX-License-Identifier: BSD-3-Clause
// What the emulator's threads put into other blocks. It is under way for as
// long as the scheduler likes; a barrier's wait ends when all that it was told
// to expect has come.
#include <string.h>

#include "kernels/simt/machine.h"

#define BARRIER_MADE 0x6d626172
// Where something is under way there is neither the old nor the new.
#define PUT_SCRIBBLE 0x5a

using namespace simt;

static void made(const gpu_put_barrier *barrier)
{
    if (barrier->made != BARRIER_MADE)
        broken("a barrier that nobody initialised");
}

void simt::put_finish(size_t index)
{
    const struct put put = machine.puts[index];

    machine.puts.erase(machine.puts.begin() + (long)index);
    if (machine.blocks[(size_t)put.block].alive == 0)
        broken("a put comes when block %d is gone", put.block);
    memcpy(put.to, &put.bits, sizeof(put.bits));
    put.barrier->bytes -= (int32_t)sizeof(put.bits);
    if (put.barrier->bytes == 0)
        wake(&machine.polling);
    if (put.barrier->bytes < 0)
        broken("block %d gets more than it expects", put.block);
}

void gpu_put_barrier_init(gpu_put_barrier *barrier, int bytes)
{
    *barrier = {bytes, BARRIER_MADE};
}

void gpu_put(void *to, uint64_t bits, gpu_put_barrier *barrier, int rank)
{
    char *there = gpu_remote((char *)to, rank);
    gpu_put_barrier *remote = gpu_remote(barrier, rank);

    made(remote);
    if (machine.shape.cluster < 2)
        broken("a put without a cluster"); // an illegal instruction
    if ((uintptr_t)to % sizeof(bits) != 0)
        broken("8 bytes at %p, which is not aligned", to);
    memset(there, PUT_SCRIBBLE, sizeof(bits));
    machine.puts.push_back({rank, there, bits, remote});
}

void gpu_put_wait(gpu_put_barrier *barrier)
{
    made(barrier);
    while (barrier->bytes > 0) {
        machine.polling.push_back(machine.running);
        rest();
    }
}
