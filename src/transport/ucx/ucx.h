// SPDX-License-Identifier: BSD-3-Clause
// What the files of libtally-ucx.so share: the objects behind transport.h and
// the operations on them. Nothing of it is seen outside.
#ifndef TRANSPORT_UCX_H
#define TRANSPORT_UCX_H

#include <stdbool.h>
#include <tally/transport.h>

#include "transport/ucx/library.h"

// Eager on every UCX transport up to some kilobytes, a rendezvous above.
#define UCX_MESSAGE_BYTES_MAX ((size_t)64 << 10)

// A request under way: lives in the part of UCX's request that is ours, from
// the post to the completion. The owner of a receive is the transport, that of
// a send the endpoint.
struct ucx_pending {
    struct ucx_pending *next;
    struct ucx_pending *previous;
    tally_request_t *request;
};

struct tally_endpoint {
    tally_transport_t *transport;
    struct tally_endpoint *next;
    ucp_ep_h handle;
    void *closing;     // UCX's request while it closes, NULL otherwise
    ucs_status_t lost; // UCS_OK, or why the peer is taken for gone
    int32_t peer;
};

struct tally_transport {
    const tally_transport_host_t *host;
    struct ucx_library library;
    ucp_context_h context;
    ucp_worker_h worker;
    struct tally_endpoint *endpoints;
    struct ucx_pending pending; // head of a ring
    bool closing;
    void *flush; // UCX's request while it closes, NULL otherwise
};

// context.c
tally_status_t ucx_context_open(const tally_transport_host_t *host,
                                const tally_transport_params_t *params,
                                const struct ucx_library *library,
                                ucp_context_h *out);

// devices.c
tally_status_t ucx_devices(const tally_transport_host_t *host, char *text,
                           size_t bytes);

// worker.c
tally_status_t ucx_worker_open(const tally_transport_host_t *host,
                               const tally_transport_params_t *params,
                               tally_transport_t **out);
tally_status_t ucx_worker_address(tally_transport_t *transport, void *address,
                                  size_t *bytes);
int ucx_worker_progress(tally_transport_t *transport);
tally_status_t ucx_worker_wait_fd(tally_transport_t *transport, int *fd);

// close.c
void ucx_worker_close(tally_transport_t *transport);
void ucx_worker_abandon(tally_transport_t *transport);

// endpoint.c
tally_status_t ucx_endpoint_connect(tally_transport_t *transport, int32_t peer,
                                    const void *address, size_t bytes,
                                    tally_endpoint_t **out);

// message.c
tally_status_t ucx_message_send(tally_endpoint_t *endpoint, uint64_t tag,
                                const void *buffer, size_t bytes,
                                tally_request_t *request);
tally_status_t ucx_message_receive(tally_transport_t *transport, uint64_t tag,
                                   void *buffer, size_t bytes,
                                   tally_request_t *request);
void ucx_message_cancel(tally_transport_t *transport, tally_request_t *request);
// Receives into nothing what has come and nobody asked for: UCX warns of it
// otherwise.
void ucx_message_discard_all(tally_transport_t *transport);
// Ends the pending requests, which UCX then completes to nobody.
void ucx_message_abandon_all(tally_transport_t *transport);

#endif
