// SPDX-License-Identifier: BSD-3-Clause
// A step whose memory is on a CUDA device: what step.c does differently then.
// The stream publishes and waits by itself; here its slots are taken, given to
// the queue, and answered, by whoever moves the progress engine, without any
// call of CUDA. Where the stream reduces by itself is step_stream.h.
#ifndef CORE_STEP_DEVICE_H
#define CORE_STEP_DEVICE_H

#include "core/objects.h"
#include "device/cuda/cuda.h"
#include "order/slot.h"

// Who reduces what a stream publishes.
struct step_reduction {
    tally_status_t (*publish)(tally_step_t *step, uint32_t carries,
                              tally_stream_t stream);
    tally_status_t (*wait)(tally_step_t *step, tally_stream_t stream);
    // Of the progress engine, before and after the queue is moved.
    void (*feed)(void *step);
    bool counts_publish; // the last count of an epoch may
    bool awaited;        // the stream stands still until the host has answered
};

// The host, over shared memory and transports between nodes.
extern const struct step_reduction step_reduction_by_host;

// The memory of a step of that device. Errors: UNSUPPORTED, MEMORY, SYSTEM.
tally_status_t step_device_create(tally_step_t *step);
// The engine takes the stream's slots from here on; before it has the queue.
void step_device_attach(tally_step_t *step,
                        const struct step_reduction *reduction);
// What the stream has published, and whose epoch it begins or ends.
enum slot_state step_device_read(const tally_step_t *step, uint64_t sequence,
                                 struct kernel_slot *head, int64_t *lanes);
void step_device_note_epoch(tally_step_t *step, uint64_t sequence,
                            const struct kernel_slot *head);
// Once the step's queue is attached, waits for what was enqueued.
void step_device_drain(tally_step_t *step);
void step_device_free(tally_step_t *step);

// What begins or goes on now can be enqueued on that stream. Errors:
// UNSUPPORTED, where it captures, and waits in a way that no graph can; SYSTEM.
// The functions below ask, too.
tally_status_t step_device_check_capture(const tally_step_t *step,
                                         tally_stream_t stream);

// Enqueues a count; the last one of an epoch may publish the weights, so that
// step_device_publish has nothing to do. Errors: OVERFLOW, SYSTEM.
tally_status_t step_device_count(tally_step_t *step, uint32_t index,
                                 const struct device_labels *labels,
                                 tally_stream_t stream);
// Enqueues what `publish` of the host posts.
tally_status_t step_device_publish(tally_step_t *step, bool weights,
                                   bool losses, tally_stream_t stream);
tally_status_t step_device_wait(tally_step_t *step, tally_stream_t stream);

// Room for so many more tokens of a channel in this epoch. Errors: OVERFLOW.
tally_status_t step_device_check_tokens(struct step_channel *channel,
                                        int64_t tokens);

// Waits until the stream has published that epoch, or never will, as the group
// is dead; at most the deadline.
void step_device_await(tally_step_t *step, uint64_t epoch);

#endif
