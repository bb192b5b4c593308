// SPDX-License-Identifier: BSD-3-Clause
// A group's communicator of stream collectives, for steps in the memory of a
// device: by the first transport of that kind, in the order of TALLY_TRANSPORT,
// that all ranks of the group have opened and tried together.
#ifndef CORE_STREAM_H
#define CORE_STREAM_H

#include "core/objects.h"
#include "order/watchdog.h"

// Gives the group its communicator, unless it has one: the trainer's
// (nccl_comm), or one of Tally's. Collective over the group; the CUDA context
// of its steps is current. Blocks until all ranks have reduced over it, at most
// a quarter of TALLY_BOOTSTRAP_TIMEOUT for each transport.
// Errors: TRANSPORT (there is none: the sentence has the reasons, the same at
// all ranks), MISMATCH (nccl_comm at some ranks only), those of the exchange.
tally_status_t stream_join(tally_group_t *group);

// What a step tells the watchdog: stream_add borrows it until stream_remove.
void stream_add(tally_group_t *group, struct watchdog_step *step);
void stream_remove(tally_group_t *group, struct watchdog_step *step);

// Enqueues one reduction in place, of `sums` lanes and, behind them, of
// `maxima` lanes: device memory, on the stream, which may be in capture. The
// sums are reduced last: seals among them vouch for the maxima, too.
// Errors: what ended the group.
tally_status_t stream_reduce(tally_group_t *group, int64_t *lanes, size_t sums,
                             size_t maxima, tally_stream_t stream);

// A reduction's sum is wrong, as core_error_text() says: whoever is gone, if
// anybody is, or else that, ends the group. The lock is held.
void stream_doubt(tally_group_t *group, tally_status_t status);

// Closes the communicator, at the end of the group. None: nothing.
void stream_leave(tally_group_t *group);

#endif
