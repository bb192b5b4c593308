// SPDX-License-Identifier: BSD-3-Clause
// Groups: which ranks, on which nodes, over which transport.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/api.h"
#include "core/error.h"
#include "core/join.h"
#include "core/objects.h"
#include "core/stream.h"
#include "core/struct_check.h"

static tally_status_t check_ranks(const tally_t *tally,
                                  const tally_group_params_t *params)
{
    bool mine = false;

    if (params->rank_count < 1 || params->rank_count > tally->world_size)
        return core_fail(TALLY_ERR_INVALID,
                         "rank_count is %d, the job has %d ranks",
                         (int)params->rank_count, (int)tally->world_size);
    for (int32_t i = 0; i < params->rank_count; i++) {
        int32_t rank = params->ranks[i];
        if (rank < 0 || rank >= tally->world_size)
            return core_fail(TALLY_ERR_INVALID,
                             "ranks[%d] is %d, the job has %d ranks", (int)i,
                             (int)rank, (int)tally->world_size);
        if (i > 0 && rank <= params->ranks[i - 1])
            return core_fail(TALLY_ERR_INVALID,
                             "ranks[%d] is %d after %d: ranks must ascend",
                             (int)i, (int)rank, (int)params->ranks[i - 1]);
        mine = mine || rank == tally->rank;
    }
    if (!mine)
        return core_fail(TALLY_ERR_INVALID,
                         "rank %d calls, but is not in ranks",
                         (int)tally->rank);
    return TALLY_OK;
}

static tally_status_t check_params(const tally_t *tally,
                                   tally_group_params_t *params)
{
    if (params->ranks == NULL) {
        params->ranks = tally->everybody;
        params->rank_count = tally->world_size;
    }
    if (params->key == NULL)
        params->key = "";
    if (params->average_ranks == 0)
        params->average_ranks = params->rank_count;
    tally_status_t status = check_ranks(tally, params);
    if (status != TALLY_OK)
        return status;
    if (params->nccl_comm != NULL && params->replica != NULL)
        return core_fail(TALLY_ERR_UNSUPPORTED,
                         "nccl_comm: steps of a replica group are in host "
                         "memory");
    if (params->average_ranks < 0)
        return core_fail(TALLY_ERR_INVALID, "average_ranks is %d",
                         (int)params->average_ranks);
    if (strlen(params->key) >= sizeof(((tally_group_t *)0)->key))
        return core_fail(TALLY_ERR_INVALID,
                         "the key \"%s\" has more than %zu bytes", params->key,
                         sizeof(((tally_group_t *)0)->key) - 1);
    return TALLY_OK;
}

static tally_status_t take_members(tally_group_t *group,
                                   const tally_group_params_t *params)
{
    size_t bytes = (size_t)params->rank_count * sizeof(*group->ranks);
    int32_t index = 0;

    group->ranks = malloc(bytes);
    if (group->ranks == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for %d ranks",
                         (int)params->rank_count);
    memcpy(group->ranks, params->ranks, bytes);
    while (group->ranks[index] != group->tally->rank)
        index++;
    snprintf(group->key, sizeof(group->key), "%s", params->key);
    group->average_ranks = params->average_ranks;
    group->nccl_comm = params->nccl_comm;
    group->fate.failed_rank = -1;
    group->members = (struct exchange_group){
        .ranks = group->ranks,
        .count = params->rank_count,
        .index = index,
        .key = group->key,
    };
    return TALLY_OK;
}

// What the trainer leaves open, the settings say.
static int32_t chosen(const tally_group_t *group, int32_t given, bool is_given,
                      enum config_key key)
{
    return is_given ? given
                    : (int32_t)config_integer(group->tally->config, key);
}

static tally_status_t take_replica(tally_group_t *group,
                                   const tally_replica_params_t *given)
{
    struct group_replica *replica = &group->replica;
    tally_replica_params_t params = {0};

    if (given == NULL)
        return TALLY_OK;
    tally_status_t status =
        struct_take("tally_replica_params", given, &params, sizeof(params),
                    STRUCT_THROUGH(tally_replica_params_t, replicas));
    if (status != TALLY_OK)
        return status;
    replica->number =
        chosen(group, params.replica, params.replica >= 0, CONFIG_REPLICA);
    replica->replicas =
        chosen(group, params.replicas, params.replicas > 0, CONFIG_REPLICAS);
    replica->witnesses =
        chosen(group, params.witnesses, params.witnesses > 0, CONFIG_WITNESSES);
    replica->minimum =
        chosen(group, params.minimum, params.minimum > 0, CONFIG_REPLICA_MIN);
    if (params.membership != NULL) {
        status = struct_take("tally_membership", params.membership,
                             &replica->membership, sizeof(replica->membership),
                             STRUCT_THROUGH(tally_membership_t, withdraw));
        if (status != TALLY_OK)
            return status;
        replica->has_membership = true;
    }
    replica->commit = params.commit;
    replica->context = params.context;
    return TALLY_OK;
}

static tally_status_t open_exchange(tally_group_t *group,
                                    const tally_group_params_t *params)
{
    tally_status_t status = TALLY_OK;

    if (params->allgather != NULL)
        status = exchange_host_open(params->allgather, params->context,
                                    params->rank_count, &group->own_exchange);
    else if (params->rank_count == 1)
        status = exchange_self_open(&group->own_exchange);
    group->exchange = group->own_exchange != NULL ? group->own_exchange
                                                  : group->tally->exchange;
    return status;
}

// Steps that reduce over the trainer's communicator need no other way between
// nodes.
static tally_status_t reach_nodes(tally_group_t *group)
{
    tally_t *tally = group->tally;
    tally_status_t status =
        tally->transports->shm_only
            ? core_fail(TALLY_ERR_TRANSPORT,
                        "TALLY_TRANSPORT=shm, but the %d ranks do not share "
                        "one memory: they are on %d nodes",
                        (int)group->topology->size,
                        (int)group->topology->node_count)
            : join_nodes(group);

    if (status != TALLY_ERR_TRANSPORT || group->nccl_comm == NULL)
        return status;
    core_log(&tally->log, TALLY_LOG_INFO,
             "group \"%s\": for steps over nccl_comm alone: %s", group->key,
             core_error_text());
    group->transport = "none";
    return TALLY_OK;
}

static tally_status_t find_nodes(tally_group_t *group)
{
    tally_t *tally = group->tally;
    struct topology_params params = {
        .node_shm = config_flag(tally->config, CONFIG_NODE_SHM),
        .node_name = config_text(tally->config, CONFIG_NODE),
    };
    tally_status_t status = topology_detect(group->exchange, &group->members,
                                            &params, &group->topology);

    if (status != TALLY_OK)
        return status;
    status =
        watch_open(group->topology, group->ranks, tally->health, &group->watch);
    if (status != TALLY_OK)
        return status;
    group->transport = group->topology->size == 1 ? "self" : "shm";
    group->crowded =
        tally->local_size / group->topology->local_size > tally->processors;
    if (group->topology->node_count == 1)
        return TALLY_OK;
    return tally->transports->stream_only ? TALLY_OK : reach_nodes(group);
}

static void release(tally_group_t *group)
{
    watch_close(group->watch);
    topology_free(group->topology);
    if (group->own_exchange != NULL)
        exchange_close(group->own_exchange);
    free(group->ranks);
    free(group);
}

// The transport may still hold buffers of a group that failed on the way up.
static void release_links(tally_group_t *group)
{
    if (group->links != NULL)
        transports_keep_links(group->tally->transports, group->links);
    group->links = NULL;
}

tally_status_t tally_group_create(tally_t *tally,
                                  const tally_group_params_t *given,
                                  tally_group_t **out)
{
    static const char function[] = "tally_group_create";
    tally_group_params_t params = {0};
    tally_status_t status;
    tally_group_t *group;

    if (tally == NULL || out == NULL)
        return api_fail(tally == NULL ? NULL : &tally->log, function,
                        core_fail(TALLY_ERR_INVALID, "%s is NULL",
                                  tally == NULL ? "tally" : "out"));
    if (given != NULL) {
        status =
            struct_take("tally_group_params", given, &params, sizeof(params),
                        STRUCT_THROUGH(tally_group_params_t, rank_count));
        if (status != TALLY_OK)
            return api_fail(&tally->log, function, status);
    }
    status = check_params(tally, &params);
    if (status != TALLY_OK)
        return api_fail(&tally->log, function, status);
    group = calloc(1, sizeof(*group));
    if (group == NULL)
        return api_fail(&tally->log, function,
                        core_fail(TALLY_ERR_MEMORY, "no memory"));
    group->tally = tally;
    status = take_members(group, &params);
    if (status == TALLY_OK)
        status = take_replica(group, params.replica);
    if (status == TALLY_OK)
        status = open_exchange(group, &params);
    if (status == TALLY_OK)
        status = find_nodes(group);
    if (status != TALLY_OK) {
        core_fail_within(status, "group \"%s\": ", params.key);
        status = api_fail(&tally->log, function, status);
        release_links(group);
        release(group);
        return status;
    }
    tally->group_count++;
    core_log(&tally->log, TALLY_LOG_INFO,
             "group \"%s\": %d ranks on %d nodes, transport %s", group->key,
             (int)group->members.count, (int)group->topology->node_count,
             group->transport);
    *out = group;
    return TALLY_OK;
}

tally_status_t tally_group_free(tally_group_t *group)
{
    if (group == NULL)
        return TALLY_OK;
    if (group->step_count > 0)
        return api_fail(&group->tally->log, "tally_group_free",
                        core_fail(TALLY_ERR_BUSY,
                                  "group \"%s\" has %u steps that must be "
                                  "freed first",
                                  group->key, (unsigned)group->step_count));
    group->tally->group_count--;
    stream_leave(group);
    release_links(group);
    release(group);
    return TALLY_OK;
}

tally_status_t tally_group_describe(const tally_group_t *group,
                                    tally_group_info_t *info)
{
    static const char function[] = "tally_group_describe";
    tally_group_info_t filled = TALLY_INIT(tally_group_info_t);
    tally_status_t status;

    if (group == NULL)
        return api_fail(NULL, function,
                        core_fail(TALLY_ERR_INVALID, "group is NULL"));
    status = struct_check("tally_group_info", info,
                          STRUCT_THROUGH(tally_group_info_t, rank));
    if (status != TALLY_OK)
        return api_fail(&group->tally->log, function, status);
    filled.rank = group->topology->rank;
    filled.ranks = group->topology->size;
    filled.nodes = group->topology->node_count;
    filled.local_ranks = group->topology->local_size;
    filled.transport = group->transport;
    struct_give(info, &filled, sizeof(filled));
    return TALLY_OK;
}
