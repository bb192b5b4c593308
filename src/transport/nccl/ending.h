// SPDX-License-Identifier: BSD-3-Clause
// The end of a communicator, by a thread of its own: NCCL may not come back
// from it. It waits, aborted or not, until the last CUDA graph that holds a
// reduction of the communicator is destroyed.
#ifndef TRANSPORT_NCCL_ENDING_H
#define TRANSPORT_NCCL_ENDING_H

#include <nccl.h>
#include <stdbool.h>
#include <stdint.h>

struct ending;

// Calls end(comm): ncclCommAbort, which ends what is under way on streams
// before anything else, or ncclCommDestroy. NULL: there was no thread for it,
// and the caller's has done it.
struct ending *ending_begin(ncclResult_t (*end)(ncclComm_t), ncclComm_t comm);

// Waits until it is done, at most so long; frees the ending. Whether it is.
bool ending_wait(struct ending *ending, int64_t timeout_us);

#endif
