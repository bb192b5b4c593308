// SPDX-License-Identifier: BSD-3-Clause
// See replica_open.h.
#include "core/replica_open.h"

#include <string.h>

#include "core/error.h"
#include "core/park.h"

static tally_status_t check(const struct replica_open_params *params)
{
    int64_t acceptors =
        config_integer(params->config, CONFIG_REPLICA_ACCEPTORS);
    int peers = params->replicas + params->witnesses;

    if (peers > REPLICA_PEERS_MAX || params->peer >= peers ||
        params->witness != (params->peer >= params->replicas))
        return core_fail(TALLY_ERR_CONFIG,
                         "there is no %s %u where TALLY_REPLICAS is %u and "
                         "TALLY_WITNESSES %u (at most %d together)",
                         params->witness ? "witness" : "replica",
                         (unsigned)params->peer, (unsigned)params->replicas,
                         (unsigned)params->witnesses, REPLICA_PEERS_MAX);
    if (acceptors % 2 == 0)
        return core_fail(TALLY_ERR_CONFIG,
                         "TALLY_REPLICA_ACCEPTORS is %d: an odd number is "
                         "needed",
                         (int)acceptors);
    if (params->minimum < 1 || params->minimum > params->replicas)
        return core_fail(TALLY_ERR_CONFIG,
                         "TALLY_REPLICA_MIN is %u of %u replicas",
                         (unsigned)params->minimum, (unsigned)params->replicas);
    return TALLY_OK;
}

static const char *setting(void *context, const char *name)
{
    enum config_key key = config_find(name);

    return key == CONFIG_COUNT ? NULL : config_text(context, key);
}

// Membership, an incarnation, and a flight recorder if one is wanted.
static tally_status_t open_membership(const struct replica_open_params *params,
                                      struct replica_opened *opened)
{
    const struct config *config = params->config;
    const char *folder = config_text(config, CONFIG_RECORDER_FOLDER);
    const struct quorum_params membership = {
        .provider = config_text(config, CONFIG_QUORUM),
        .job = config_text(config, CONFIG_JOB),
        .peer = params->peer,
        .peers = (uint16_t)(params->replicas + params->witnesses),
        .setting = setting,
        .setting_context = (void *)(uintptr_t)config,
        .log = params->log,
        .membership = params->membership,
    };
    struct recorder_params recorder = {
        .folder = folder,
        .job = membership.job,
        .witness = params->witness,
        .log = params->log,
    };
    tally_status_t status = quorum_open(&membership, &opened->quorum);

    if (status == TALLY_OK && !quorum_has_register(opened->quorum) &&
        config_integer(config, CONFIG_REPLICA_FORCE) != 0)
        status = core_fail(TALLY_ERR_CONFIG,
                           "TALLY_REPLICA_FORCE is set, but TALLY_QUORUM=%s "
                           "has no register of lineages: only etcd has one",
                           membership.provider);
    if (status == TALLY_OK)
        status = quorum_incarnation(
            opened->quorum,
            config_microseconds(config, CONFIG_BOOTSTRAP_TIMEOUT),
            &opened->incarnation);
    recorder.self = (struct replica_name){params->peer, 0, opened->incarnation};
    if (status == TALLY_OK && folder[0] != '\0')
        status = recorder_open(&recorder, &opened->recorder);
    return status;
}

// The first that opens, of those that may be used.
static tally_status_t open_transport(const struct replica_open_params *params,
                                     struct transports_entry **out)
{
    const char *wanted = config_text(params->config, CONFIG_REPLICA_TRANSPORT);
    struct transports *transports = params->transports;
    tally_status_t status = TALLY_ERR_TRANSPORT;

    transports_add_known(transports);
    for (int i = 0; i < transports->count; i++) {
        struct transports_entry *entry = &transports->entries[i];
        if (strcmp(wanted, "auto") != 0 && strcmp(wanted, entry->name) != 0)
            continue;
        status = transports_need(transports, entry, TALLY_TAGGED_P2P);
        if (status == TALLY_OK)
            status =
                transports_open(transports, entry, TRANSPORTS_FOR_REPLICAS);
        if (status == TALLY_OK) {
            *out = entry;
            return TALLY_OK;
        }
    }
    return core_fail_within(status,
                            "no transport between replica groups "
                            "(TALLY_REPLICA_TRANSPORT=%s): ",
                            wanted);
}

static tally_status_t start_loop(const struct replica_open_params *params,
                                 struct replica_opened *opened)
{
    const struct config *config = params->config;
    struct replica_loop_params loop = {
        .ops = opened->entry->backend->ops,
        .transport = opened->entry->opened[TRANSPORTS_FOR_REPLICAS].transport,
        .quorum = opened->quorum,
        .recorder = opened->recorder,
        .self = {params->peer, 0, opened->incarnation},
        .witness = params->witness,
        .replicas = params->replicas,
        .witnesses = params->witnesses,
        .records = params->records,
        .minimum = params->minimum,
        .acceptors = (uint32_t)config_integer(config, CONFIG_REPLICA_ACCEPTORS),
        .layout = params->layout,
        .heartbeat_us = config_integer(config, CONFIG_HEARTBEAT_US),
        .dead_after = (uint32_t)config_integer(config, CONFIG_HEARTBEAT_MISSES),
        .deadline_us = config_microseconds(config, CONFIG_REPLICA_DEADLINE),
        .decide_after_us = config_microseconds(config, CONFIG_REPLICA_PATIENCE),
        .apply_after_us =
            config_microseconds(config, CONFIG_REPLICA_GRADIENT_PATIENCE),
        .force_us = config_integer(config, CONFIG_REPLICA_FORCE) * 1000000,
        .log = params->log,
        .decided = params->decided,
        .context = params->context,
    };

    return replica_loop_start(&loop, &opened->loop);
}

static void peer_lost(void *context, int32_t peer)
{
    const struct replica_opened *opened = context;

    replica_loop_hint(opened->loop, peer);
}

tally_status_t replica_open_all(const struct replica_open_params *params,
                                struct replica_opened *opened)
{
    struct transports_opened *worker;
    tally_status_t status = check(params);

    memset(opened, 0, sizeof(*opened));
    if (status != TALLY_OK)
        return status;
    status = open_membership(params, opened);
    if (status == TALLY_OK)
        status = open_transport(params, &opened->entry);
    if (status != TALLY_OK) {
        replica_close_all(opened);
        return status;
    }
    worker = &opened->entry->opened[TRANSPORTS_FOR_REPLICAS];
    worker->used = true;
    worker->peer_lost = peer_lost;
    worker->peer_lost_context = opened;
    status = start_loop(params, opened);
    if (status != TALLY_OK) {
        replica_close_all(opened);
        return status;
    }
    park_at_exit();
    core_log(params->log, TALLY_LOG_INFO,
             "%s %u of %u, incarnation %llu, over %s",
             params->witness ? "witness" : "replica", (unsigned)params->peer,
             (unsigned)params->replicas,
             (unsigned long long)opened->incarnation, opened->entry->name);
    return status;
}

// The transport may use the loop's buffers until it is closed.
bool replica_close_all(struct replica_opened *opened)
{
    bool may = park_call_begins();

    replica_loop_stop(opened->loop);
    if (!may)
        return false;
    if (opened->entry != NULL)
        transports_close(opened->entry, TRANSPORTS_FOR_REPLICAS);
    replica_loop_free(opened->loop);
    quorum_close(opened->quorum);
    recorder_close(opened->recorder);
    memset(opened, 0, sizeof(*opened));
    park_call_ends();
    return true;
}
