// SPDX-License-Identifier: BSD-3-Clause
// A step whose memory is on a CUDA device: what step.c does differently then.
// The stream publishes and waits by itself; here its slots are taken, given to
// the queue, and answered, by whoever moves the progress engine, without any
// call of CUDA.
#ifndef CORE_STEP_DEVICE_H
#define CORE_STEP_DEVICE_H

#include "core/objects.h"

// The memory of a step of that device. Errors: UNSUPPORTED, MEMORY, SYSTEM.
tally_status_t step_device_create(tally_step_t *step);
// The engine takes the stream's slots from here on; before it has the queue.
void step_device_attach(tally_step_t *step);
// Once the step's queue is attached, waits for what was enqueued.
void step_device_drain(tally_step_t *step);
void step_device_free(tally_step_t *step);

// Enqueues what `publish` of the host posts.
tally_status_t step_device_publish(tally_step_t *step, bool weights,
                                   bool losses, tally_stream_t stream);

// Room for so many more tokens of a channel in this epoch. Errors: OVERFLOW.
tally_status_t step_device_check_tokens(struct step_channel *channel,
                                        int64_t tokens);

// Waits until the stream has published that epoch; at most the deadline.
void step_device_await(tally_step_t *step, uint64_t epoch);

#endif
