// SPDX-License-Identifier: BSD-3-Clause
// Endpoints: how a peer is reached, and how its loss is told.
#include "transport/ucx/status.h"
#include "transport/ucx/ucx.h"

#define LOOK_TURNS 16

// UCX has taken the endpoint down: it may only be closed from now on.
static void peer_lost(void *argument, ucp_ep_h handle, ucs_status_t ucx)
{
    tally_endpoint_t *endpoint = argument;
    tally_transport_t *transport = endpoint->transport;

    (void)handle;
    endpoint->lost = ucx;
    if (!transport->closing)
        transport->host->peer_lost(transport->host->context, endpoint->peer,
                                   transport->library.status_string(ucx));
}

// UCX takes up a connection that the peer has made; where that broke before UCX
// knows, 1.13 aborts the process. Enough turns to accept one, to read what has
// come over it, and to see that it is broken.
static void look_at_connections(const tally_transport_t *transport)
{
    for (int turn = 0; turn < LOOK_TURNS; turn++)
        transport->library.worker_progress(transport->worker);
}

tally_status_t ucx_endpoint_connect(tally_transport_t *transport, int32_t peer,
                                    const void *address, size_t bytes,
                                    tally_endpoint_t **out)
{
    const tally_transport_host_t *host = transport->host;
    tally_endpoint_t *endpoint =
        host->allocate(host->context, sizeof(*endpoint));
    const ucp_ep_params_t params = {
        .field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS |
                      UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                      UCP_EP_PARAM_FIELD_ERR_HANDLER,
        .address = address,
        .err_mode = UCP_ERR_HANDLING_MODE_PEER,
        .err_handler = {.cb = peer_lost, .arg = endpoint},
    };

    (void)bytes; // the address knows its own length
    if (endpoint == NULL)
        return ucx_fail(host, TALLY_ERR_MEMORY,
                        "no memory for an endpoint to rank %d", (int)peer);
    endpoint->transport = transport;
    endpoint->peer = peer;
    endpoint->lost = UCS_OK;
    look_at_connections(transport);
    ucs_status_t ucx = transport->library.ep_create(transport->worker, &params,
                                                    &endpoint->handle);
    if (ucx != UCS_OK) {
        host->release(host->context, endpoint);
        return ucx_fail(host, TALLY_ERR_TRANSPORT,
                        "UCX has no way to rank %d: %s", (int)peer,
                        transport->library.status_string(ucx));
    }
    endpoint->next = transport->endpoints;
    transport->endpoints = endpoint;
    *out = endpoint;
    return TALLY_OK;
}
