// SPDX-License-Identifier: BSD-3-Clause
// The stream's side of a reduction: publish, wait, and MAX lanes; see slot.h.
#ifndef KERNELS_STREAM_H
#define KERNELS_STREAM_H

#include "gpu.h"
#include "kernels/slot.h"
#include "numeric/maximum.h"

#define STREAM_NAN_BITS 0x7fc00000u

GPU_FN void record_take(struct numeric_record *from, int64_t *lanes,
                        int64_t ranks)
{
    struct numeric_record record = *from;
    const struct numeric_record none = {};

    numeric_record_fold(&record);
    if (!numeric_record_fits(&record, ranks))
        numeric_record_mark(&record);
    *(struct numeric_record *)lanes = record;
    *from = none;
}

// One block.
GPU_FN void publish_slot(const struct kernel_publish &publish)
{
    const uint32_t k = (uint32_t)gpu_thread();
    const uint64_t sequence = publish.state->sequence + 1;
    struct kernel_slot *slot =
        (struct kernel_slot *)(publish.slots +
                               sequence % KERNEL_SLOTS * publish.slot_bytes);
    int64_t *lanes = (int64_t *)(slot + 1);

    if (k < publish.channels)
        record_take(&publish.records[k], lanes + k * NUMERIC_LANES,
                    publish.ranks);
    if (k < publish.max_lanes) {
        int64_t code = NUMERIC_MAXIMUM_NONE;
        if (publish.maxima != NULL) {
            code = publish.maxima[k];
            publish.maxima[k] = NUMERIC_MAXIMUM_NONE;
        }
        lanes[publish.channels * NUMERIC_LANES + k] = code;
    }
    gpu_fence_system();
    gpu_block_barrier();
    if (k != 0)
        return;
    if (publish.carries & KERNEL_SLOT_WEIGHTS) {
        publish.state->epoch++;
        publish.state->awaited = sequence;
    }
    publish.state->sequence = sequence;
    slot->epoch = publish.state->epoch;
    slot->carries = publish.carries;
    slot->micro_batches = publish.micro_batches;
    gpu_store_release(&slot->sequence, sequence);
}

// One block. A wait that ended by its deadline is the last: those after it have
// a NaN at once, for the host takes the group for dead.
GPU_FN void wait_for_scales(const struct kernel_wait &wait)
{
    const uint32_t k = (uint32_t)gpu_thread();
    const uint64_t sequence = wait.state->awaited;
    const uint64_t begin = gpu_nanoseconds();

    if (k >= wait.channels)
        return;
    const uint64_t *word =
        wait.answers + sequence % KERNEL_SLOTS * wait.channels + k;
    uint64_t answer = gpu_load_system(word);
    while (answer >> 32 != (sequence & 0xffffffff)) {
        if (wait.state->expired != 0 ||
            gpu_nanoseconds() - begin > wait.deadline_ns) {
            answer = STREAM_NAN_BITS;
            if (wait.state->expired == 0) {
                wait.state->expired = sequence;
                gpu_store_release(wait.expired, sequence);
            }
            break;
        }
        gpu_pause();
        answer = gpu_load_system(word);
    }
    const uint32_t bits = (uint32_t)answer;
    memcpy(&wait.scales[k], &bits, sizeof(bits));
}

#endif
