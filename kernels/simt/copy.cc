// SPDX-License-Identifier: BSD-3-Clause
// The emulator's copy engine. A copy is under way for as long as the scheduler
// likes; a barrier's phase ends when all that it was told to expect has come.
#include <string.h>

#include "kernels/simt/machine.h"

#define BARRIER_MADE 0x6d626172
// Where a copy is under way there is neither the old nor the new.
#define COPY_SCRIBBLE 0x5a

using namespace simt;

static void made(const gpu_copy_barrier *barrier)
{
    if (barrier->made != BARRIER_MADE)
        broken("a copy barrier that nobody initialised");
}

static void barrier_settle(gpu_copy_barrier *barrier)
{
    if (barrier->expected > 0 || barrier->bytes != 0)
        return;
    barrier->phase++;
    barrier->expected = 1;
    wake(&machine.polling);
}

void simt::copy_finish(size_t index)
{
    struct copy copy = machine.copies[index];

    machine.copies.erase(machine.copies.begin() + (long)index);
    if (machine.blocks[(size_t)copy.block].alive == 0)
        broken("a copy comes when block %d is gone", copy.block);
    memcpy(copy.to, copy.from != NULL ? copy.from : (const char *)&copy.bits,
           (size_t)copy.bytes);
    copy.barrier->bytes -= copy.bytes;
    barrier_settle(copy.barrier);
}

void gpu_copy_barrier_init(gpu_copy_barrier *barrier)
{
    *barrier = {1, 0, 0, BARRIER_MADE};
}

void gpu_copy_expect(gpu_copy_barrier *barrier, int bytes)
{
    made(barrier);
    if (--barrier->expected < 0)
        broken("a second arrival at a copy barrier");
    barrier->bytes += bytes;
    barrier_settle(barrier);
}

void gpu_copy(char *to, const char *from, int bytes, gpu_copy_barrier *barrier)
{
    made(barrier);
    aligned(to);
    aligned(from);
    if (bytes <= 0 || bytes % (int)sizeof(gpu_vector) != 0)
        broken("a copy of %d bytes", bytes);
    memset(to, COPY_SCRIBBLE, (size_t)bytes);
    machine.copies.push_back({self().block, to, from, 0, bytes, barrier});
}

void gpu_put(void *to, uint64_t bits, gpu_copy_barrier *barrier, int rank)
{
    char *there = gpu_remote((char *)to, rank);
    gpu_copy_barrier *remote = gpu_remote(barrier, rank);

    made(remote);
    if (machine.shape.cluster < 2)
        broken("a put without a cluster"); // an illegal instruction
    if ((uintptr_t)to % sizeof(bits) != 0)
        broken("8 bytes at %p, which is not aligned", to);
    memset(there, COPY_SCRIBBLE, sizeof(bits));
    machine.copies.push_back(
        {rank, there, NULL, bits, (int)sizeof(bits), remote});
}

void gpu_copy_wait(gpu_copy_barrier *barrier, int parity)
{
    made(barrier);
    while (barrier->phase % 2 == parity) {
        machine.polling.push_back(machine.running);
        rest();
    }
}
