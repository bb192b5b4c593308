// SPDX-License-Identifier: BSD-3-Clause
// A step of a CUDA device that its stream reduces by itself (NCCL): between two
// kernels, of which the second one computes the scales. The host looks at what
// came of it, and ends the group where it does not end.
#ifndef CORE_STEP_STREAM_H
#define CORE_STEP_STREAM_H

#include "core/objects.h"

// Whether it is to reduce so: by what it was given, and TALLY_TRANSPORT.
bool step_stream_wanted(const tally_step_t *step);

// Gives the group its communicator, unless it has one, and the step its
// reduction. Collective over the group. *joined: it has; false, and OK: the
// transports between hosts are to reduce, as TALLY_TRANSPORT names some.
// number: the same at all ranks, and of no other step of the group.
// Errors: those of stream_join.
tally_status_t step_stream_join(tally_step_t *step, uint64_t number,
                                bool *joined);

// Whether its group is dead, so that the stream may never come to an epoch.
bool step_stream_failed(const tally_step_t *step);

// Before its memory is freed: what the trainer's communicator has under way
// ends once its owner aborts it. Waits a little. Errors: BUSY, if it has not.
tally_status_t step_stream_settle(tally_step_t *step);

// The watchdog looks at it no more. A step that does not reduce so: nothing.
void step_stream_leave(tally_step_t *step);

#endif
