// SPDX-License-Identifier: BSD-3-Clause
// See queues.h.
#include "harness/queues.h"

#include <check.h>
#include <stdio.h>

static const struct collective_reducer reducer[] = {{16, {1, 1}, 0}};

static void keep_line(void *context, tally_log_level_t level, const char *line)
{
    struct queues_rank *rank = context;

    (void)level;
    rank->logged++;
    snprintf(rank->line, sizeof(rank->line), "%s", line);
}

static void open_rank(struct queues *queues, int32_t index, int64_t timeout_us)
{
    struct queues_rank *rank = &queues->ranks[index];
    struct collective_job *job = &queues->job;
    const struct exchange_group *group = &job->ranks[index].exchange.group;
    struct queue_params params = {
        .allreduce = job->allreduces[0][index],
        .health = queues->health,
        .fate = &rank->fate,
        .log = &rank->log,
        .group_key = "dp",
        .ranks = group->ranks,
        .rank_count = group->count,
        .lane_count = QUEUES_LANES,
        .timeout_us = timeout_us,
    };

    *rank = (struct queues_rank){.fate = {.failed_rank = -1}};
    rank->log = (struct core_log){TALLY_LOG_INFO, index, keep_line, rank};
    job->allreduces[0][index] = NULL; // the queue's
    ck_assert_int_eq(queue_create(&params, &rank->queue), TALLY_OK);
}

void queues_open(struct queues *queues, int32_t size,
                 const struct fake_options *options, int64_t timeout_us)
{
    collective_job_open(&queues->job, size, options,
                        options != NULL ? layout_each : layout_one, reducer, 1);
    ck_assert_int_eq(
        health_create(COLLECTIVE_FIRST_WORLD_RANK + 2 * size, &queues->health),
        TALLY_OK);
    for (int32_t rank = 0; rank < size; rank++)
        open_rank(queues, rank, timeout_us);
}

void queues_close(struct queues *queues)
{
    for (int32_t rank = 0; rank < queues->job.size; rank++)
        queue_free(queues->ranks[rank].queue);
    collective_job_close(&queues->job);
    health_free(queues->health);
}

void queues_fill(const struct queues *queues, int32_t rank, uint64_t ticket,
                 int64_t *lanes)
{
    lanes_fill(&queues->job.reducers[0].shape, rank, ticket, lanes);
}

bool queues_right(const struct queues *queues, uint64_t ticket,
                  const int64_t *lanes)
{
    const struct lanes_shape *shape = &queues->job.reducers[0].shape;
    int64_t total[QUEUES_LANES];

    lanes_expect(shape, queues->job.size, ticket, total);
    return lanes_equal(shape, lanes, total);
}

uint64_t queues_post(struct queues *queues, int32_t rank)
{
    struct queue *queue = queues->ranks[rank].queue;
    uint64_t ticket = queue->posted + 1;
    int64_t lanes[QUEUES_LANES];

    queues_fill(queues, rank, ticket, lanes);
    return queue_post(queue, lanes, ticket);
}

void queues_move(struct queues *queues, int32_t rank)
{
    const struct collective_rank *each = &queues->job.ranks[rank];

    if (each->transport != NULL)
        fake_network_ops(each->network)->progress(each->transport);
    queue_advance(queues->ranks[rank].queue);
}
