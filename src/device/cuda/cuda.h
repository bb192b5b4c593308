// SPDX-License-Identifier: BSD-3-Clause
// The CUDA device: its kernels, and the memory and the stream's part of a step.
// Calls only enqueue, but for create and free.
#ifndef DEVICE_CUDA_CUDA_H
#define DEVICE_CUDA_CUDA_H

#include <stdint.h>
#include <tally/tally.h>

#include "device/device.h"
#include "kernels/slot.h"

// How a stream waits (TALLY_STREAM_WAIT). The wait kernel, which reads the
// scales, comes behind each.
enum cuda_wait {
    CUDA_WAIT_KERNEL,  // it polls
    CUDA_WAIT_MEMOP,   // a stream memory operation; not under capture
    CUDA_WAIT_HOSTFUNC // a host function
};

struct cuda_step_params {
    uint32_t channels;
    uint32_t max_lanes;
    int64_t rank; // of the group
    int64_t ranks;
    int64_t deadline_us; // of a wait, later than the host's own
    enum cuda_wait wait;
};

// The host reads slots, expired and the mirror, and writes answers and `dead`,
// by atomics alone.
struct cuda_step {
    struct device *device;
    struct cuda_step_params params;
    // Pinned.
    char *pinned;
    char *slots; // [KERNEL_SLOTS] of slot_bytes
    size_t slot_bytes;
    uint64_t *answers; // [KERNEL_SLOTS][channels]
    uint64_t *expired; // sequence of the wait that the stream gave up; 0
    struct kernel_mirror *mirror;
    // Device memory.
    struct numeric_record *counts; // [channels]
    struct numeric_record *losses; // [channels]
    float *scales;                 // [channels]
    int64_t *maxima;               // [max_lanes]
    int64_t *lanes;                // what a stream reduces by itself
    struct kernel_state *state;
    void *memory;
    struct cuda_parts *parts; // of rows; NULL until a loss needs some
    // As the device sees them.
    char *device_slots;
    uint64_t *device_answers;
    uint64_t *device_expired;
    struct kernel_mirror *device_mirror;
    // Where the last publication was enqueued, and whether all counts since
    // then were, too.
    tally_stream_t stream;
    bool one_stream;
    uint64_t published; // by launches of the host program, not by replays
    uint64_t awaited;
};

// Makes the device's context the thread's, until cuda_leave, if it is not.
tally_status_t cuda_enter(struct device *device, bool *entered);
void cuda_leave(struct device *device, bool entered);

tally_status_t cuda_step_create(struct device *device,
                                const struct cuda_step_params *params,
                                struct cuda_step **out);
// Waits for all that was enqueued. NULL: nothing.
void cuda_step_synchronize(struct cuda_step *step);
void cuda_step_free(struct cuda_step *step);

static inline const uint64_t *cuda_step_slot(const struct cuda_step *step,
                                             uint64_t sequence)
{
    return (const void *)(step->slots +
                          sequence % KERNEL_SLOTS * step->slot_bytes);
}

// Before what a stream's wait depends on is enqueued. UNSUPPORTED, if the
// stream captures and waits by a memory operation: a launch names the sequence,
// and replays would get ahead of it.
tally_status_t cuda_step_check_capture(struct cuda_step *step,
                                       tally_stream_t stream);

// Counts labels of a channel, and publishes the weights in the same launch if
// `last` of the epoch and if nothing can be under way in another stream: if all
// that the step has enqueued from its last publication on is in this one.
// *published: it has.
tally_status_t cuda_step_count(struct cuda_step *step, uint32_t channel,
                               const struct device_labels *labels, bool last,
                               int32_t micro_batches, tally_stream_t stream,
                               bool *published);
tally_status_t cuda_step_publish(struct cuda_step *step, uint32_t carries,
                                 bool maxima, int32_t micro_batches,
                                 tally_stream_t stream);
tally_status_t cuda_step_wait(struct cuda_step *step, tally_stream_t stream);

// Where the stream reduces by itself, what comes before that, and behind.
// number: of the step, among those that the group has; the same at all ranks.
struct cuda_reduction {
    uint64_t number;
    uint32_t carries;
    int32_t micro_batches;
    bool maxima;
    double divisor;             // numeric_scale()
    const double *coefficients; // [channels]
};
// Before both: UNSUPPORTED, if it is the thread's default stream, for NCCL may
// enqueue by a thread of its own, whose stream that would be.
tally_status_t cuda_step_check_stream(tally_stream_t stream);
tally_status_t cuda_step_contribute(struct cuda_step *step,
                                    const struct cuda_reduction *reduction,
                                    tally_stream_t stream);
tally_status_t cuda_step_settle(struct cuda_step *step,
                                const struct cuda_reduction *reduction,
                                tally_stream_t stream);
tally_status_t cuda_step_maximum(struct cuda_step *step, uint32_t lane,
                                 const float *value, tally_stream_t stream);

#endif
