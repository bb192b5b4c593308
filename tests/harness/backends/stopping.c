// SPDX-License-Identifier: BSD-3-Clause
// A test backend: no message arrives, and rank 2 is stopped, as by SIGSTOP or a
// machine that hangs, as soon as it makes progress.
#include <signal.h>

#include "backend.h"

struct tally_transport {
    const tally_transport_host_t *host;
    int32_t rank;
};

struct tally_endpoint {
    int32_t peer;
};

static tally_status_t stopping_open(const tally_transport_host_t *host,
                                    const tally_transport_params_t *params,
                                    tally_transport_t **out)
{
    tally_transport_t *transport =
        host->allocate(host->context, sizeof(*transport));

    if (transport == NULL)
        return TALLY_ERR_MEMORY;
    transport->host = host;
    transport->rank = params->rank;
    *out = transport;
    return TALLY_OK;
}

static void stopping_close(tally_transport_t *transport)
{
    transport->host->release(transport->host->context, transport);
}

static tally_status_t stopping_connect(tally_transport_t *transport,
                                       int32_t peer, const void *address,
                                       size_t bytes, tally_endpoint_t **out)
{
    static tally_endpoint_t nowhere; // nothing is kept in it

    (void)transport;
    (void)peer;
    (void)address;
    (void)bytes;
    *out = &nowhere;
    return TALLY_OK;
}

static int stopping_progress(tally_transport_t *transport)
{
    if (transport->rank == 2)
        raise(SIGSTOP);
    return 0;
}

static const tally_transport_ops_t table = {
    .size = sizeof(table),
    .abi = TALLY_TRANSPORT_ABI,
    .name = "stopping",
    .kind = TALLY_TAGGED_P2P,
    .version = "of the tests",
    .open = stopping_open,
    .close = stopping_close,
    .address = backend_address,
    .connect = stopping_connect,
    .tsend = backend_tsend,
    .trecv = backend_trecv_nothing,
    .progress = stopping_progress,
    .cancel = backend_cancel,
    .wait_fd = backend_wait_fd,
    .message_max = 4096,
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
