// SPDX-License-Identifier: BSD-3-Clause
// The stream's side of a reduction: publish and wait, or contribute and settle,
// and MAX lanes; see slot.h.
#ifndef KERNELS_STREAM_H
#define KERNELS_STREAM_H

#include "gpu.h"
#include "kernels/slot.h"
#include "numeric/maximum.h"
#include "numeric/scale.h"
#include "numeric/seal.h"

#define STREAM_NAN_BITS 0x7fc00000u

GPU_FN struct numeric_record record_take(struct numeric_record *from,
                                         int64_t ranks)
{
    struct numeric_record record = *from;
    const struct numeric_record none = {};

    numeric_record_fold(&record);
    if (!numeric_record_fits(&record, ranks))
        numeric_record_mark(&record);
    *from = none;
    return record;
}

GPU_FN int64_t maximum_take(int64_t *maxima, uint32_t k)
{
    int64_t code = NUMERIC_MAXIMUM_NONE;

    if (maxima != NULL) {
        code = maxima[k];
        maxima[k] = NUMERIC_MAXIMUM_NONE;
    }
    return code;
}

// The words of `count` lanes from the one with that index on.
GPU_FN void slot_put(uint64_t *slot, uint64_t sequence, uint32_t index,
                     const void *lanes, uint32_t count)
{
    uint64_t *word = slot + KERNEL_LANE_WORDS * index;

    for (uint32_t i = 0; i < count; i++) {
        uint64_t lane;
        memcpy(&lane, (const char *)lanes + i * sizeof(lane), sizeof(lane));
        gpu_store_system(word + KERNEL_LANE_WORDS * i,
                         sequence << 32 | (uint32_t)lane,
                         sequence << 32 | lane >> 32);
    }
}

GPU_FN void slot_put_head(uint64_t *slot, uint64_t sequence,
                          const struct kernel_slot &head)
{
    slot_put(slot, sequence, 0, &head, KERNEL_SLOT_HEAD_LANES);
}

GPU_FN void slot_put_record(uint64_t *slot, uint64_t sequence, uint32_t channel,
                            const struct numeric_record &record)
{
    slot_put(slot, sequence, KERNEL_SLOT_HEAD_LANES + channel * NUMERIC_LANES,
             &record, NUMERIC_LANES);
}

GPU_FN void slot_put_maximum(uint64_t *slot, uint64_t sequence,
                             uint32_t channels, uint32_t k, int64_t code)
{
    slot_put(slot, sequence,
             KERNEL_SLOT_HEAD_LANES + channels * NUMERIC_LANES + k, &code, 1);
}

// One block, or the last one. All threads know the sequence before it changes.
GPU_FN void publish_slot(const struct kernel_publish &publish)
{
    const uint32_t k = (uint32_t)gpu_thread();
    const bool weights = (publish.carries & KERNEL_SLOT_WEIGHTS) != 0;
    const uint64_t sequence = publish.state->sequence + 1;
    const uint64_t epoch = publish.state->epoch + weights;
    uint64_t *slot = (uint64_t *)(publish.slots +
                                  sequence % KERNEL_SLOTS * publish.slot_bytes);

    if (k < publish.channels)
        slot_put_record(slot, sequence, k,
                        record_take(&publish.records[k], publish.ranks));
    if (k < publish.max_lanes)
        slot_put_maximum(slot, sequence, publish.channels, k,
                         maximum_take(publish.maxima, k));
    gpu_block_barrier();
    if (k != 0)
        return;
    slot_put_head(slot, sequence,
                  {epoch, publish.carries, publish.micro_batches});
    publish.state->sequence = sequence;
    publish.state->epoch = epoch;
    if (weights)
        publish.state->awaited = sequence;
}

// Whether all other blocks have come here. By all threads, once a launch.
GPU_FN bool is_last_block(uint64_t *arrived)
{
    uint32_t *last = (uint32_t *)gpu_shared();

    gpu_block_barrier();
    if (gpu_thread() == 0) {
        *last = gpu_arrive(arrived) == (uint64_t)gpu_blocks() - 1;
        if (*last)
            *arrived = 0; // for the next launch
    }
    gpu_block_barrier();
    return *last != 0;
}

// The bits, as a scale may be a NaN of the host's choice.
GPU_FN void scale_put(float *scale, uint32_t bits)
{
    memcpy(scale, &bits, sizeof(bits));
}

GPU_FN bool is_answer(uint64_t word, uint64_t sequence)
{
    return word >> 32 == (sequence & 0xffffffff);
}

// One block. A wait that ended by its deadline is the last: those after it have
// a NaN at once, for the host takes the group for dead. What else a look
// depends on is found out while it is under way over the bus.
GPU_FN void wait_for_scales(const struct kernel_wait &wait)
{
    const uint32_t k = (uint32_t)gpu_thread();
    const uint64_t sequence = wait.state->awaited;
    bool last = false;

    if (k >= wait.channels)
        return;
    const uint64_t *word =
        wait.answers + sequence % KERNEL_SLOTS * wait.channels + k;
    uint64_t answer = gpu_load_system(word);
    const uint64_t begin = gpu_nanoseconds();
    while (!is_answer(answer, sequence) && !last) {
        gpu_pause();
        answer = gpu_load_system(word);
        last = wait.state->expired != 0 ||
               gpu_nanoseconds() - begin > wait.deadline_ns;
    }
    if (!is_answer(answer, sequence)) {
        answer = STREAM_NAN_BITS;
        if (wait.state->expired == 0) {
            wait.state->expired = sequence;
            gpu_store_system(wait.expired, sequence);
        }
    }
    gpu_dependents_launch(); // not sooner, as nobody knows how long this takes
    scale_put(&wait.scales[k], (uint32_t)answer);
}

// One block.
GPU_FN void contribute_lanes(const struct kernel_contribute &give)
{
    const uint32_t k = (uint32_t)gpu_thread();
    const uint64_t sequence = give.state->sequence + 1;

    if (k < give.channels) {
        struct numeric_record record =
            record_take(&give.records[k], give.ranks);
        numeric_record_seal(&record, numeric_seal_key(give.step, sequence, k),
                            give.rank);
        ((struct numeric_record *)give.lanes)[k] = record;
    }
    if (k < give.max_lanes)
        give.lanes[give.channels * NUMERIC_LANES + k] =
            maximum_take(give.maxima, k);
    gpu_block_barrier();
    if (k != 0)
        return;
    if (give.carries & KERNEL_SLOT_WEIGHTS)
        give.state->epoch++;
    give.state->sequence = sequence;
    gpu_store_system(&give.mirror->started, sequence);
}

// Whether any thread of the block says so; all ask, each time at another place.
GPU_FN bool block_any(bool vote, int place)
{
    const int warps = KERNEL_SLOT_THREADS / GPU_WARP;
    uint32_t *votes = (uint32_t *)gpu_shared() + place * warps;
    const uint32_t ballot = gpu_ballot(vote);
    uint32_t any = 0;

    if (gpu_lane() == 0)
        votes[gpu_warp()] = ballot;
    gpu_block_barrier();
    for (int i = 0; i < warps; i++)
        any |= votes[i];
    return any != 0;
}

// One block. A sum that is not one of all ranks' records poisons all that come
// after it, too: the host takes the group for dead.
GPU_FN void settle_totals(const struct kernel_settle &settle)
{
    const uint32_t k = (uint32_t)gpu_thread();
    const uint64_t sequence = settle.state->sequence;
    uint64_t *slot = (uint64_t *)(settle.slots +
                                  sequence % KERNEL_SLOTS * settle.slot_bytes);
    struct numeric_record total = {};
    bool wrong = k == 0 && (settle.state->poisoned != 0 ||
                            gpu_load_system(&settle.mirror->dead) != 0);

    if (k < settle.channels) {
        const uint64_t key = numeric_seal_key(settle.step, sequence, k);
        total = ((const struct numeric_record *)settle.lanes)[k];
        wrong = !numeric_record_sealed(&total, key, settle.ranks) || wrong;
        numeric_record_fold(&total);
        total.reserved = 0;
    }
    const bool poisoned = block_any(wrong, 0);
    const bool overflowed = block_any(numeric_record_overflowed(&total), 1);
    if (k < settle.channels) {
        slot_put_record(slot, sequence, k, total);
        if (settle.carries & KERNEL_SLOT_WEIGHTS) {
            const float scale =
                numeric_scale(total.weight_hi, total.weight_lo,
                              settle.coefficients[k], settle.divisor);
            uint32_t bits = STREAM_NAN_BITS;
            if (!poisoned && !overflowed)
                memcpy(&bits, &scale, sizeof(bits));
            scale_put(&settle.scales[k], bits);
        }
    }
    if (k < settle.max_lanes)
        slot_put_maximum(slot, sequence, settle.channels, k,
                         settle.lanes[settle.channels * NUMERIC_LANES + k]);
    if (k != 0)
        return;
    const uint32_t end = poisoned ? KERNEL_SLOT_POISONED : 0;
    slot_put_head(
        slot, sequence,
        {settle.state->epoch, settle.carries | end, settle.micro_batches});
    if (poisoned)
        settle.state->poisoned = 1;
    else
        gpu_store_system(&settle.mirror->finished, sequence);
}

#endif
