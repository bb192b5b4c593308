// SPDX-License-Identifier: BSD-3-Clause
// What the cases of gpu_steps share: an epoch and what it must give.
#ifndef GPU_STEPS_EPOCH_H
#define GPU_STEPS_EPOCH_H

#include "gpu/steps.h"

// What a rank has in an epoch of a test: labels and logits that differ from
// rank to rank.
#define TOKENS 8
#define VOCAB 1000

struct batch {
    int64_t labels[TOKENS];
    float logits[TOKENS * VOCAB];
};

struct arrays {
    void *labels, *logits, *gradient, *value;
};

extern const tally_order_t count_first, scale_late;

void batch_fill(struct batch *batch, int rank);
struct arrays arrays_on_gpu(const struct batch *batch);
// One epoch, enqueued; all its calls must return OK.
void enqueue(tally_step_t *step, tally_order_t order,
             const struct arrays *arrays, tally_stream_t stream);
tally_status_t read_result(tally_step_t *step, uint64_t epoch,
                           tally_channel_result_t *channel, float *max);
float scale_on_gpu(tally_step_t *step);
// What a failed epoch leaves: NaN on the device, a context that works, a group
// that is dead. The trainer's communicator holds the stream until it is
// aborted.
void expect_failed(struct rank *rank, tally_step_t *step, uint64_t epoch,
                   tally_status_t expected);
double seconds(void);

// The cases of steps_order.c.
void two_steps_on_two_streams(void);
void two_groups_on_two_streams(void);
void a_graph_is_replayed(void);
void a_graph_sees_new_labels(void);
void two_graphs_take_turns(void);
void opposite_orders_end_by_the_deadline(void);
void opposite_orders_of_groups_end_by_the_deadline(void);

#endif
