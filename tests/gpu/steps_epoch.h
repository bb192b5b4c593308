// SPDX-License-Identifier: BSD-3-Clause
// What the cases of gpu_steps share: an epoch and what it must give.
#ifndef GPU_STEPS_EPOCH_H
#define GPU_STEPS_EPOCH_H

#include "gpu/steps.h"

// What a rank has in an epoch of a test: labels and logits that differ from
// rank to rank.
#define TOKENS 8
#define VOCAB 1000

struct arrays {
    void *labels, *logits, *gradient, *value;
};

extern const tally_order_t count_first, scale_late;

// In the GPU's memory.
struct arrays arrays_of(int rank);
// A second group of all ranks: a rank of its own, but for its process.
struct rank second_group(const struct rank *rank);
// When all have come here: rank 1 dies, once the others wait.
void rank_1_is_killed(struct processes_member *member);
// One epoch, enqueued; all its calls must return OK. Its two parts: until the
// weights are reduced, where they are the first, and the rest.
void enqueue(tally_step_t *step, tally_order_t order,
             const struct arrays *arrays, tally_stream_t stream);
void enqueue_begin(tally_step_t *step, tally_order_t order,
                   const struct arrays *arrays, tally_stream_t stream);
void enqueue_end(tally_step_t *step, tally_order_t order,
                 const struct arrays *arrays, tally_stream_t stream);
// Labels of an epoch: of each rank another number that count. Returns that of
// all ranks.
int64_t new_labels(struct arrays *arrays, int rank, int ranks, uint64_t epoch);
tally_status_t read_result(tally_step_t *step, uint64_t epoch,
                           tally_channel_result_t *channel, float *max);
float scale_on_gpu(tally_step_t *step);
// What a failed epoch leaves: NaN on the device, a context that works, a group
// that is dead. The trainer's communicator holds the stream until it is
// aborted; or another rank's is, of three: then expect_dead alone.
void expect_failed(struct rank *rank, tally_step_t *step, uint64_t epoch,
                   tally_status_t expected);
void expect_dead(struct rank *rank, tally_step_t *step);
double seconds(void);
bool launches_block(void);

// Whether a step can be captured, as the stream waits by a kernel; else says
// so.
bool has_graphs(void);

// The case of steps_columns.c.
void columns_of_shards_are_those_of_whole_rows(void);

// The cases of steps_order.c.
void channels_are_counted_on_one_stream_or_two(void);
void two_steps_on_two_streams(void);
void two_groups_on_two_streams(void);
void opposite_orders_end_by_the_deadline(void);
void opposite_orders_of_groups_end_by_the_deadline(void);

// The cases of steps_graphs.c.
void a_graph_is_replayed(void);
void a_graph_sees_new_labels(void);
void a_graph_is_refused_where_the_stream_has_no_epoch(void);
void two_graphs_take_turns(void);

// The cases of steps_shape.c.
void shaped_losses_are_as_on_the_host(void);
void shaped_losses_of_two_streams_are_apart(void);

// That of steps_threads.c.
void only_the_application_calls_the_driver(void);

// The cases of steps_ends.c.
void an_abandoned_epoch_ends_at_all_ranks(void);
void of_three_ranks_one_is_killed(void);
void what_a_late_host_has_missed_is_overwritten(void);
void steps_that_differ_are_refused_at_all_ranks(void);
void without_nccl_at_one_rank_the_host_reduces(void);

#endif
