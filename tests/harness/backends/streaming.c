// SPDX-License-Identifier: BSD-3-Clause
// A test backend: of collectives on a device's stream, and good at that.
#include "backend.h"

static tally_status_t allreduce(tally_transport_t *transport, void *group,
                                int64_t *lanes, size_t count,
                                tally_stream_t stream)
{
    (void)transport;
    (void)group;
    (void)lanes;
    (void)count;
    (void)stream;
    return TALLY_OK;
}

static tally_status_t group_id(tally_transport_t *transport, void *id,
                               size_t *bytes)
{
    (void)transport;
    (void)id;
    *bytes = 0;
    return TALLY_OK;
}

static tally_status_t group_open(tally_transport_t *transport,
                                 const tally_stream_group_params_t *params,
                                 tally_stream_group_t **out)
{
    (void)transport;
    (void)params;
    (void)out;
    return TALLY_ERR_UNSUPPORTED;
}

static tally_status_t group_poll(tally_transport_t *transport,
                                 tally_stream_group_t *group)
{
    (void)transport;
    (void)group;
    return TALLY_OK;
}

static void group_end(tally_transport_t *transport, tally_stream_group_t *group)
{
    (void)transport;
    (void)group;
}

static const tally_transport_ops_t table = {
    .size = sizeof(table),
    .abi = TALLY_TRANSPORT_ABI,
    .kind = TALLY_STREAM_COLLECTIVE,
    .name = "streaming",
    .version = "of the tests",
    .open = backend_open,
    .close = backend_close,
    .allreduce = allreduce,
    .group_id = group_id,
    .group_open = group_open,
    .group_poll = group_poll,
    .group_abort = group_end,
    .group_close = group_end,
};

tally_status_t tallyTransport_query(uint32_t host_abi,
                                    const tally_transport_host_t *host,
                                    const tally_transport_ops_t **ops)
{
    (void)host_abi;
    (void)host;
    *ops = &table;
    return TALLY_OK;
}
