// SPDX-License-Identifier: BSD-3-Clause
// A communicator from its identity to its end. Tally's own do not block: NCCL
// brings them up, and takes them down, by threads of its own, and is asked how
// far it is.
#include <string.h>
#include <time.h>

#include "transport/nccl/communicator.h"
#include "transport/nccl/status.h"

// How long a close waits for what NCCL still sends to others, and for its end.
#define FINALIZE_US ((int64_t)1000000)
#define END_US ((int64_t)2000000)
#define FINALIZE_NAP_US ((int64_t)100)

tally_status_t communicator_id(tally_transport_t *transport, void *id,
                               size_t *bytes)
{
    ncclUniqueId unique;

    if (*bytes < sizeof(unique))
        return nccl_fail(transport->host, TALLY_ERR_MEMORY,
                         "an identity of NCCL has %zu bytes", sizeof(unique));
    ncclResult_t result = transport->library.get_unique_id(&unique);
    if (result != ncclSuccess)
        return nccl_fail(transport->host, TALLY_ERR_TRANSPORT,
                         "NCCL makes no identity: %s: %s",
                         transport->library.get_error_string(result),
                         transport->library.get_last_error(NULL));
    memcpy(id, &unique, sizeof(unique));
    *bytes = sizeof(unique);
    return TALLY_OK;
}

static tally_status_t start(tally_transport_t *transport,
                            const tally_stream_group_params_t *params,
                            tally_stream_group_t *group)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclUniqueId unique;

    if (params->id_bytes != sizeof(unique))
        return nccl_fail(transport->host, TALLY_ERR_MISMATCH,
                         "an identity of NCCL has %zu bytes, not %zu",
                         sizeof(unique), params->id_bytes);
    memcpy(&unique, params->id, sizeof(unique));
    tally_status_t status =
        cuda_trial_open(transport->host, &transport->driver, &group->trial);
    if (status != TALLY_OK)
        return status;
    config.blocking = 0;
    config.maxCTAs = 1; // a few lines: more blocks would only keep it waiting
    ncclResult_t result = transport->library.comm_init_rank_config(
        &group->comm, params->ranks, unique, params->rank, &config);
    if (result == ncclSuccess || result == ncclInProgress)
        return TALLY_OK;
    return communicator_fail(group, result);
}

tally_status_t communicator_open(tally_transport_t *transport,
                                 const tally_stream_group_params_t *params,
                                 tally_stream_group_t **out)
{
    const tally_transport_host_t *host = transport->host;
    tally_stream_group_t *group = host->allocate(host->context, sizeof(*group));

    if (group == NULL)
        return nccl_fail(host, TALLY_ERR_MEMORY,
                         "no memory for a communicator");
    group->transport = transport;
    group->ranks = params->ranks;
    group->timeout_us = params->timeout_us;
    tally_status_t status = params->adopted != NULL
                                ? communicator_adopt(transport, params, group)
                                : start(transport, params, group);
    if (status != TALLY_OK) {
        communicator_abort(transport, group);
        communicator_close(transport, group);
        return status;
    }
    *out = group;
    return TALLY_OK;
}

static tally_status_t try_begin(tally_stream_group_t *group)
{
    *group->trial.lane = 1;
    group->state = COMMUNICATOR_TRIES;
    tally_status_t status = communicator_sum(
        group->transport, group, group->trial.lane, 1, group->trial.stream);
    return status == TALLY_OK ? TALLY_NOT_YET : status;
}

static tally_status_t try_poll(tally_stream_group_t *group)
{
    const tally_transport_host_t *host = group->transport->host;
    tally_status_t status =
        cuda_trial_poll(host, &group->transport->driver, &group->trial);

    if (status != TALLY_OK)
        return status;
    int64_t sum = *(volatile int64_t *)group->trial.lane;
    if (sum != group->ranks)
        return nccl_fail(host, TALLY_ERR_TRANSPORT,
                         "NCCL adds up one each of %d ranks to %lld",
                         (int)group->ranks, (long long)sum);
    cuda_trial_close(&group->transport->driver, &group->trial);
    group->state = COMMUNICATOR_OPEN;
    return TALLY_OK;
}

tally_status_t communicator_poll(tally_transport_t *transport,
                                 tally_stream_group_t *group)
{
    ncclResult_t state = ncclSuccess;

    if (group->state == COMMUNICATOR_FAILED)
        return nccl_fail(transport->host, group->failed, "%s", group->sentence);
    ncclResult_t result =
        transport->library.comm_get_async_error(group->comm, &state);
    if (result == ncclSuccess)
        result = state;
    // Of the host program's it may be in the midst of another call.
    if (result == ncclInProgress)
        return group->state == COMMUNICATOR_OPEN ? TALLY_OK : TALLY_NOT_YET;
    if (result != ncclSuccess)
        return communicator_fail(group, result);
    if (group->state == COMMUNICATOR_STARTS)
        return try_begin(group);
    return group->state == COMMUNICATOR_TRIES ? try_poll(group) : TALLY_OK;
}

void communicator_abort(tally_transport_t *transport,
                        tally_stream_group_t *group)
{
    if (group->state != COMMUNICATOR_FAILED) {
        group->state = COMMUNICATOR_FAILED;
        group->failed = TALLY_ERR_DEAD;
        strcpy(group->sentence, "the communicator was aborted");
    }
    if (group->adopted || group->comm == NULL)
        return;
    group->ending = ending_begin(transport->library.comm_abort, group->comm);
    group->comm = NULL;
}

// Whether all that was sent has left this process.
static bool finalize(const tally_transport_t *transport, ncclComm_t comm)
{
    const struct timespec nap = {0, FINALIZE_NAP_US * 1000};
    ncclResult_t state = transport->library.comm_finalize(comm);

    for (int64_t us = 0; state == ncclInProgress && us < FINALIZE_US;
         us += FINALIZE_NAP_US) {
        nanosleep(&nap, NULL);
        if (transport->library.comm_get_async_error(comm, &state) !=
            ncclSuccess)
            return false;
    }
    return state == ncclSuccess;
}

void communicator_close(tally_transport_t *transport,
                        tally_stream_group_t *group)
{
    const tally_transport_host_t *host = transport->host;

    if (group == NULL)
        return;
    if (!group->adopted && group->comm != NULL)
        group->ending = ending_begin(group->state == COMMUNICATOR_OPEN &&
                                             finalize(transport, group->comm)
                                         ? transport->library.comm_destroy
                                         : transport->library.comm_abort,
                                     group->comm);
    if (group->ending == NULL || ending_wait(group->ending, END_US))
        cuda_trial_close(&transport->driver, &group->trial);
    else
        host->log(host->context, TALLY_LOG_WARN,
                  "NCCL does not end a communicator: CUDA graphs that hold "
                  "reductions must be destroyed before their group");
    host->release(host->context, group);
}
