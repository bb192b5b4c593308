// SPDX-License-Identifier: BSD-3-Clause
// See collective.h.
#include "harness/collective.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

// Far beyond what a race takes that still moves.
#define TURNS_MAX 100000000

int32_t layout_one(int32_t rank)
{
    (void)rank;
    return 0;
}

int32_t layout_two(int32_t rank)
{
    return rank % 2;
}

int32_t layout_each(int32_t rank)
{
    return rank;
}

int32_t layout_uneven(int32_t rank)
{
    if (rank == 1)
        return 1;
    return rank >= 3 && rank < 6 ? 2 : 0;
}

void collective_open(struct collective_rank *rank, callback_allgather_fn gather,
                     void *context, int32_t index, int32_t size,
                     collective_layout_fn layout, struct fake_network *network)
{
    char name[16];
    struct topology_params params = {.node_shm = true, .node_name = name};
    struct exchange *exchange = &rank->exchange.base;
    struct exchange_group *group = &rank->exchange.group;
    struct links_address own;

    memset(rank, 0, sizeof(*rank));
    rank->rank = index;
    rank->network = network;
    snprintf(name, sizeof(name), "node %d", (int)layout(index));
    callback_exchange_open(&rank->exchange, gather, context, index, size,
                           COLLECTIVE_FIRST_WORLD_RANK);
    ck_assert_msg(topology_detect(exchange, group, &params, &rank->topology) ==
                      TALLY_OK,
                  "%s", core_error_text());
    if (network == NULL)
        return;
    rank->transport = fake_network_open(network, index);
    links_address_read(fake_network_ops(network), rank->transport, &own);
    ck_assert_msg(links_create(fake_network_ops(network), rank->transport, &own,
                               NULL, exchange, group, &rank->links) == TALLY_OK,
                  "%s", core_error_text());
}

void collective_close(struct collective_rank *rank)
{
    if (rank->transport != NULL)
        fake_network_ops(rank->network)->close(rank->transport);
    links_free(rank->links);
    topology_free(rank->topology);
    callback_exchange_close(&rank->exchange);
}

struct allreduce_params collective_params(struct collective_rank *rank,
                                          const struct lanes_shape *shape,
                                          uint32_t radix, uint16_t tag_space)
{
    return (struct allreduce_params){
        .topology = rank->topology,
        .links = rank->links,
        .exchange = &rank->exchange.base,
        .group = &rank->exchange.group,
        .records = shape->records,
        .max_lanes = shape->max_lanes,
        .radix = radix,
        .tag_space = tag_space,
    };
}

struct allreduce *collective_allreduce(struct collective_rank *rank,
                                       const struct lanes_shape *shape,
                                       uint32_t radix, uint16_t tag_space)
{
    struct allreduce_params params =
        collective_params(rank, shape, radix, tag_space);
    struct allreduce *allreduce = NULL;

    ck_assert_msg(allreduce_create(&params, &allreduce) == TALLY_OK, "%s",
                  core_error_text());
    return allreduce;
}

tally_status_t collective_progress(struct collective_rank *rank,
                                   struct allreduce *allreduce)
{
    if (rank->transport != NULL)
        fake_network_ops(rank->network)->progress(rank->transport);
    return allreduce_progress(allreduce);
}

// ------------------------------------------------------------------ the race

// No rank is more than one reduction ahead of another, so two totals are
// enough. Asserts that pass cost a system call each: none where turns are.
struct course {
    const struct collective_race *race;
    struct random random;
    uint64_t *started; // [size]
    bool *busy;        // [size]
    int64_t *lanes;
    int64_t *totals[2];
    uint64_t total_of[2];
    int32_t laggard; // seldom moves, for some time
    int32_t running; // ranks that have not done all
};

static const int64_t *course_total(struct course *course, uint64_t sequence)
{
    size_t index = sequence % 2;

    if (course->total_of[index] != sequence)
        lanes_expect(&course->race->shape, course->race->size, sequence,
                     course->totals[index]);
    course->total_of[index] = sequence;
    return course->totals[index];
}

static void course_start(struct course *course, int32_t rank)
{
    const struct collective_race *race = course->race;

    lanes_fill(&race->shape, rank, ++course->started[rank], course->lanes);
    allreduce_start(race->allreduces[rank], course->lanes);
    course->busy[rank] = true;
}

static void course_finish(struct course *course, int32_t rank)
{
    const struct collective_race *race = course->race;
    uint64_t sequence = course->started[rank];
    const int64_t *result = allreduce_result_borrow(race->allreduces[rank]);

    if (!lanes_equal(&race->shape, result, course_total(course, sequence)) ||
        allreduce_awaited(race->allreduces[rank]) != -1)
        ck_abort_msg("rank %d, reduction %d", (int)rank, (int)sequence);
    course->busy[rank] = false;
    if (sequence == race->done + race->reductions)
        course->running--;
}

static void course_turn(struct course *course)
{
    const struct collective_race *race = course->race;
    int32_t rank = (int32_t)random_below(&course->random, (uint32_t)race->size);

    if (random_below(&course->random, 64) == 0)
        course->laggard =
            (int32_t)random_below(&course->random, (uint32_t)race->size);
    if (rank == course->laggard && random_below(&course->random, 8) != 0)
        return;
    if (!course->busy[rank] &&
        course->started[rank] < race->done + race->reductions)
        course_start(course, rank);
    tally_status_t status =
        collective_progress(&race->ranks[rank], race->allreduces[rank]);
    if (status == TALLY_OK && course->busy[rank])
        course_finish(course, rank);
    else if (status != TALLY_OK && status != TALLY_NOT_YET)
        ck_abort_msg("rank %d: %s", (int)rank, core_error_text());
}

void collective_race_run(const struct collective_race *race)
{
    size_t bytes = lanes_count(&race->shape) * sizeof(int64_t);
    struct course course = {
        .race = race,
        .random = random_seeded(race->seed),
        .started = calloc((size_t)race->size, sizeof(uint64_t)),
        .busy = calloc((size_t)race->size, sizeof(bool)),
        .lanes = malloc(bytes),
        .totals = {malloc(bytes), malloc(bytes)},
        .running = race->reductions > 0 ? race->size : 0,
    };

    for (int32_t i = 0; i < race->size; i++)
        course.started[i] = race->done;
    for (int32_t turn = 0; course.running > 0; turn++) {
        if (turn == TURNS_MAX)
            ck_abort_msg("no end");
        course_turn(&course);
    }
    free(course.totals[1]);
    free(course.totals[0]);
    free(course.lanes);
    free(course.busy);
    free(course.started);
}
