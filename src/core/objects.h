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

struct tally_group {
    tally_t *tally;
    char key[32];
    int32_t *ranks; // world ranks
    int32_t average_ranks;
    struct exchange *exchange;     // borrowed, or
    struct exchange *own_exchange; // of the group's own all-gather
    struct exchange_group members;
    struct topology *topology;
    bool crowded;        // this host has more leaders than processors
    struct links *links; // NULL if one node holds all
    const char *transport;
    struct watch *watch;
    struct queue_fate fate; // under the progress lock
    uint32_t step_count;
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
    int32_t counted; // micro-batches, in this epoch
    int32_t lost;    // micro-batches given to the loss
    int64_t tokens;  // counted and given to the loss; CUDA only
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
    struct device *device_memory; // what they are called with
    struct cuda_step *device;     // NULL: the host
    // Of the CUDA device, under the lock.
    uint64_t answered; // tickets
    uint64_t expired;  // seen

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
};

// The caller's arrays, checked (step_arguments.c). Errors: INVALID, ABI.
tally_status_t step_take_labels(const struct step_channel *channel,
                                const tally_labels_t *given,
                                struct device_labels *out);
tally_status_t step_take_logits(const struct step_channel *channel,
                                const tally_logits_t *given,
                                struct device_loss *job);
// given: NULL for none. After the logits.
tally_status_t step_take_outputs(const struct step_channel *channel,
                                 const tally_loss_outputs_t *given,
                                 struct device_loss *job);

// What the framework divides gradients by (tally_convention_t).
double step_divisor(const tally_step_t *step, int32_t micro_batches);

#endif
