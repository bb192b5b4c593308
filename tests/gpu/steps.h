// SPDX-License-Identifier: BSD-3-Clause
// A rank of the tests of steps on a GPU, and what a trainer does there by
// itself: memory, streams, graphs. Failures end the process.
#ifndef GPU_STEPS_H
#define GPU_STEPS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tally/tally.h>

#include "harness/processes.h"

struct rank {
    struct processes_member *member;
    tally_t *tally;
    tally_group_t *group;
    tally_stream_t stream; // does not wait for the default one
    void *comm;            // the trainer's; NULL: none, or aborted
    bool on_stream;        // a step of the group reduces over NCCL
};

// Returns how many GPUs the ranks share.
int rank_open(struct rank *rank, struct processes_member *member);
void rank_close(struct rank *rank);
// Ends what the trainer's communicator has under way, if there is one.
void rank_abort(struct rank *rank);
// Of one channel, in TALLY_GRADIENT_AVERAGE.
tally_status_t rank_try_step(const struct rank *rank, tally_order_t order,
                             uint32_t max_lanes, tally_device_t device,
                             tally_step_t **step);
// The same, which must be there, with one MAX lane.
tally_step_t *rank_step(struct rank *rank, tally_order_t order,
                        tally_device_t device);

// 64-bit labels without weights.
tally_labels_t labels_at(const void *values, int64_t tokens);

// How many GPUs there are, at most 255; asks a process of its own, as a context
// does not survive a fork.
int gpu_count(void);
// Makes a context, once a process: on the GPU of that number, or the one that
// several share. Returns how many there are.
int gpu_open(int number);
// That of the context.
int gpu_number(void);
void *gpu_take(size_t bytes, const void *contents);
void gpu_put(void *to, const void *from, size_t bytes);
void gpu_get(void *to, const void *from, size_t bytes);
tally_stream_t gpu_stream(void);
void gpu_synchronize(tally_stream_t stream);
void gpu_call(tally_stream_t stream, void (*function)(void *), void *argument);
void gpu_capture_begin(tally_stream_t stream);
void *gpu_capture_end(tally_stream_t stream);
void gpu_replay(void *graph, tally_stream_t stream);
void gpu_forget(void *graph);

// Whether TALLY_TRANSPORT=nccl; and, with ADOPT=1, over the trainer's
// communicator, that is made here.
bool nccl_reduces(void);
bool nccl_is_trainers(void);
void *nccl_open(struct processes_member *member);
void nccl_abort(void *comm);
void nccl_close(void *comm);

// Runs ranks that all must return; else ends the test.
void must_return(int32_t ranks,
                 void (*body)(struct processes_member *, const void *),
                 const void *argument);
void must_end(int32_t ranks,
              void (*body)(struct processes_member *, const void *),
              const void *argument, const enum processes_end *ends);

#endif
