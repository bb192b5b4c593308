// SPDX-License-Identifier: BSD-3-Clause
// A queue of reductions for every rank of a job in one thread, each with a fate
// and a log of its own.
#ifndef HARNESS_QUEUES_H
#define HARNESS_QUEUES_H

#include "core/health.h"
#include "core/log.h"
#include "harness/collective_job.h"
#include "order/queue.h"

#define QUEUES_LANES 9 // 1 record, 1 maximum

struct queues_rank {
    struct queue *queue;
    struct queue_fate fate;
    struct core_log log;
    int logged; // lines
    char line[512];
};

struct queues {
    struct collective_job job;
    struct health *health; // one for all
    struct queues_rank ranks[JOB_RANKS_MAX];
};

// Asserts that it works. options: NULL for ranks of one node; else each is on
// its own.
void queues_open(struct queues *queues, int32_t size,
                 const struct fake_options *options, int64_t timeout_us);
void queues_close(struct queues *queues);

// Lanes that a rank gives to its reduction `ticket`, and their total.
void queues_fill(const struct queues *queues, int32_t rank, uint64_t ticket,
                 int64_t *lanes);
bool queues_right(const struct queues *queues, uint64_t ticket,
                  const int64_t *lanes);

// Posts the next reduction of a rank, with its ticket as epoch.
uint64_t queues_post(struct queues *queues, int32_t rank);

// Moves the rank's transport and queue.
void queues_move(struct queues *queues, int32_t rank);

#endif
