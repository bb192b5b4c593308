// SPDX-License-Identifier: BSD-3-Clause
// See crowd.h.
#include "bootstrap/sim/crowd.h"

#include <stdlib.h>

#include "bootstrap/sim/plain.h"
#include "bootstrap/tree/rooms.h"
#include "bootstrap/tree/shape.h"
#include "core/error.h"

struct crowd {
    struct plain *plain;
    struct health *health; // one for all: nobody dies
    struct identity identity;
    int32_t size;
    struct member **members;
    bool *begun;
    bool *up;
    int32_t up_count;
    int64_t end_ns;
};

static tally_status_t add_member(struct crowd *crowd, int32_t rank,
                                 const struct crowd_params *params)
{
    const struct bootstrap_params bootstrap = {
        .identity = &crowd->identity,
        .radix = params->radix,
        .timeout_us = params->timeout_us,
        .abi = TALLY_ABI,
        .version = TALLY_VERSION_STRING,
        .settings = "",
        .health = crowd->health,
    };

    crowd->identity.rank = rank;
    return member_create(&bootstrap, plain_host(crowd->plain, rank),
                         &crowd->members[rank]);
}

static void crowd_free(struct crowd *crowd)
{
    for (int32_t i = 0; crowd->members != NULL && i < crowd->size; i++)
        if (crowd->members[i] != NULL)
            member_free(crowd->members[i]);
    free(crowd->members);
    free(crowd->begun);
    free(crowd->up);
    plain_free(crowd->plain);
    health_free(crowd->health);
}

static tally_status_t crowd_create(const struct crowd_params *params,
                                   struct crowd *crowd)
{
    const struct plain_options options = {
        .hosts = params->size,
        .seed = params->seed,
        .one_way_ns = params->one_way_ns,
        .jitter_ns = params->jitter_ns,
        .call_ns = params->call_ns,
        .backlog = params->backlog,
    };
    size_t size = (size_t)params->size;

    *crowd = (struct crowd){
        .plain = plain_create(&options),
        .identity = {.world_size = params->size,
                     .source = "simulated",
                     .host = "root",
                     .ports = {1},
                     .port_count = 1},
        .size = params->size,
        .members = calloc(size, sizeof(struct member *)),
        .begun = calloc(size, sizeof(bool)),
        .up = calloc(size, sizeof(bool)),
    };
    tally_status_t status = health_create(params->size, &crowd->health);
    if (crowd->plain == NULL || crowd->members == NULL ||
        crowd->begun == NULL || crowd->up == NULL)
        status = core_fail(TALLY_ERR_MEMORY, "no memory for %d members",
                           (int)params->size);
    for (int32_t i = 0; status == TALLY_OK && i < params->size; i++)
        status = add_member(crowd, i, params);
    return status;
}

static void begin_at_any_time(struct crowd *crowd, int64_t spread_ns)
{
    struct network *network = plain_host(crowd->plain, 0);

    for (int32_t i = 0; i < crowd->size; i++) {
        int64_t us =
            network->ops->draw(network, (uint32_t)(spread_ns / 1000) + 1);

        plain_timer(crowd->plain, i, us * 1000);
    }
}

// One turn of a member, as its thread would do it.
static void turn(struct crowd *crowd, int32_t rank)
{
    struct member *member = crowd->members[rank];
    struct network *network = member->network;
    struct epoll_event events[LOOP_EVENTS_MAX];

    if (!crowd->begun[rank])
        loop_begin(member);
    crowd->begun[rank] = true;
    int count = network->ops->wait(network, events, LOOP_EVENTS_MAX, 0);
    loop_turn(member, events, count);
    int ms = loop_wait_ms(member);
    plain_timer(crowd->plain, rank,
                ms < 0 ? INT64_MAX
                       : plain_now_ns(crowd->plain, rank) + ms * 1000000LL);
    if (member->state == MEMBER_UP && !crowd->up[rank]) {
        crowd->up[rank] = true;
        crowd->up_count++;
        if (plain_now_ns(crowd->plain, rank) > crowd->end_ns)
            crowd->end_ns = plain_now_ns(crowd->plain, rank);
    }
}

static int32_t depth(int32_t size, int32_t radix)
{
    int32_t levels = 0;

    for (int32_t rank = size - 1; rank > 0; rank = shape_parent(rank, radix))
        levels++;
    return levels;
}

tally_status_t crowd_run(const struct crowd_params *params,
                         struct crowd_result *out)
{
    struct crowd crowd;
    tally_status_t status = crowd_create(params, &crowd);
    int32_t rank = 0;

    if (status != TALLY_OK)
        goto free_crowd;
    begin_at_any_time(&crowd, params->spread_ns);
    while (crowd.up_count < params->size && rank >= 0 &&
           crowd.members[0]->state != MEMBER_FAILED) {
        rank = plain_next(crowd.plain);
        if (rank >= 0)
            turn(&crowd, rank);
    }
    const struct member *root = crowd.members[0];
    const struct plain_counts counts = plain_counts(crowd.plain, 0);
    *out = (struct crowd_result){
        .up = crowd.up_count,
        .time_ns = crowd.end_ns,
        .depth = depth(params->size, root->radix),
        .received = counts.received,
        .sent = counts.sent,
        .accepted = counts.accepted,
        .connections = counts.connections_most,
        .busy_ns = counts.busy_ns,
        .turned_back = counts.turned_back,
    };
    if (root->state == MEMBER_FAILED)
        status = core_fail(root->shared.status, "%s", root->shared.sentence);
free_crowd:
    crowd_free(&crowd);
    return status;
}
