// SPDX-License-Identifier: BSD-3-Clause
// What stands behind the public handles. Only src/core includes this.
#ifndef CORE_OBJECTS_H
#define CORE_OBJECTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <tally/tally.h>

#include "bootstrap/exchange.h"
#include "collective/links.h"
#include "collective/topology.h"
#include "collective/watch.h"
#include "core/config.h"
#include "core/health.h"
#include "core/log.h"
#include "core/transports.h"
#include "device/device.h"
#include "order/progress.h"
#include "order/queue.h"

struct group_stream;

struct tally {
    tally_host_t host;
    struct config *config;
    struct core_log log;
    int32_t rank;
    int32_t world_size;
    int32_t local_size; // as the launcher says; 0: unknown
    int32_t processors; // that this process may run on
    char launcher[24];
    int32_t *everybody; // 0 .. world_size - 1
    struct health *health;
    struct exchange *exchange;
    const struct device_ops *device_ops;
    struct device *device;
    struct device *cuda; // opened by the first step that wants it
    struct progress *progress;
    struct transports *transports;
    uint32_t group_count;
    uint32_t next_tag_space;
};

// Of reductions over one transport: those of steps, and one for each group.
#define TAG_SPACES 65536u

// A group that is one replica among several.
struct group_replica {
    int32_t number;
    int32_t replicas; // 0: it is none
    int32_t witnesses;
    int32_t minimum;
    int (*commit)(void *context, uint64_t index, int ready);
    void *context;
    bool has_membership;
    tally_membership_t membership;
};

struct step_replica;

// Of one reduction: records of the channels, then MAX lanes.
#define STEP_LANES_MAX                                                         \
    (NUMERIC_LANES * TALLY_CHANNELS_MAX + TALLY_MAX_LANES_MAX)

struct tally_group {
    tally_t *tally;
    char key[32];
    int32_t *ranks; // world ranks
    int32_t average_ranks;
    struct exchange *exchange;     // borrowed, or
    struct exchange *own_exchange; // of the group's own all-gather
    struct exchange_group members;
    struct topology *topology;
    bool crowded;                // this host has more leaders than processors
    struct links *links;         // NULL if one node holds all
    struct group_stream *stream; // stream.c; NULL: none
    void *nccl_comm;             // the trainer's, NULL: none
    const char *transport;
    struct watch *watch;
    struct queue_fate fate;
    uint32_t step_count;
    struct group_replica replica;
};

enum step_state {
    STEP_IDLE,    // before begin, after end
    STEP_BEGUN,   // counting (or losses, SCALE_LATE)
    STEP_REDUCED, // the reduction is posted
    STEP_SETTLED  // it was waited for
};

struct step_channel {
    char name[32];
    int64_t vocab;
    int64_t ignore_index;
    double coefficient;
    float temperature;
    bool shaped;
    struct kernel_shaping shaping; // only where `shaped`
    int32_t counted;               // micro-batches, in this epoch
    int32_t lost;                  // micro-batches given to the loss
    int64_t tokens;                // counted and given to the loss; CUDA only
};

// One epoch in the ring of results; under the progress lock.
struct step_epoch {
    uint64_t epoch; // 0: none yet
    int32_t micro_batches;
    uint64_t count_ticket; // of the reduction that carries the weights
    uint64_t loss_ticket;  // of the one that carries the losses; 0: not yet
    bool ended;
};

struct tally_step {
    tally_group_t *group;
    tally_order_t order;
    tally_convention_t convention;
    double schedule_divisor;
    uint32_t channel_count;
    uint32_t max_lanes;
    size_t lane_count;
    struct step_channel *channels;

    enum step_state state;
    uint64_t epoch;
    int32_t micro_batches;
    tally_status_t settled; // what wait returned in this epoch

    const struct device_ops *device_ops;
    struct device *device_memory;           // what they are called with
    struct cuda_step *device;               // NULL: the host
    const struct step_reduction *reduction; // step_device.h; with a device
    bool weights_published;                 // by the newest count; CUDA only
    // Of the CUDA device, under the lock.
    uint64_t answered;            // tickets
    uint64_t expired;             // seen
    struct watchdog_step watched; // where the stream reduces by itself
    uint64_t number;              // of its seals

    // Device memory; on the host device, plain memory.
    struct numeric_record *counts; // [channel_count]
    struct numeric_record *losses; // [channel_count]
    float *scales;                 // [channel_count]
    int64_t maxima[TALLY_MAX_LANES_MAX];
    int64_t *lanes; // [lane_count]: scratch of the step's thread

    struct queue *queue;
    uint64_t count_ticket; // of this epoch
    struct step_epoch ring[TALLY_EPOCH_RING];
    uint64_t latest; // the last epoch that was reduced; under the lock

    struct step_replica *replica; // NULL: the group is no replica
    int32_t counted_replicas;     // in this epoch; 1 without replicas
    int32_t ranks_in_total;       // at most, whose records are added
};

// How a public function of a step ends that fails (api.h). Returns `status`.
tally_status_t step_fail(const tally_step_t *step, const char *function,
                         tally_status_t status);
tally_status_t step_fail_null(const char *function); // the step is NULL
// What a call that came out of order is told.
const char *step_state_name(const tally_step_t *step);
// Errors: INVALID.
tally_status_t step_check_channel(const tally_step_t *step, uint32_t channel);

// Waits for the reduction and computes the scales, once an epoch; on a GPU the
// stream does. Errors: those of the reduction.
tally_status_t step_settle(tally_step_t *step, tally_stream_t stream);

// The caller's arrays, checked (step_arguments.c). Errors: INVALID, ABI.
tally_status_t step_take_labels(const struct step_channel *channel,
                                const tally_labels_t *given,
                                struct device_labels *out);
// After the labels: all columns of the channel.
void step_take_all_columns(struct device_loss *job);
tally_status_t step_take_columns(const tally_columns_t *given,
                                 struct device_loss *job);
// After the columns.
tally_status_t step_take_logits(const struct step_channel *channel,
                                const tally_logits_t *given,
                                struct device_loss *job);
// given: NULL for none. After the logits.
tally_status_t step_take_outputs(const tally_loss_outputs_t *given,
                                 struct device_loss *job);

// What the framework divides gradients by (tally_convention_t), over so many
// replicas.
double step_divisor(const tally_step_t *step, int32_t micro_batches,
                    int32_t replicas);

// A queue of reductions among the group's ranks, without its all-reduce.
tally_status_t step_create_queue(tally_group_t *group, size_t lane_count,
                                 int64_t timeout_us, struct queue **out);

// Whether a sum of any channel does not fit. lanes: of a result.
bool step_overflowed(const tally_step_t *step, const int64_t *lanes);

// The scales from the totals in step->lanes. Errors: OVERFLOW.
tally_status_t step_compute_scales(tally_step_t *step);

#endif
