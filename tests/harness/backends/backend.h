// SPDX-License-Identifier: BSD-3-Clause
// What the test backends share: operations that do nothing, and a table of
// them. Each backend is wrong in one way, for the tests of the loader.
#ifndef BACKENDS_BACKEND_H
#define BACKENDS_BACKEND_H

#include <tally/transport.h>

TALLY_API tally_status_t
tallyTransport_query(uint32_t host_abi, const tally_transport_host_t *host,
                     const tally_transport_ops_t **ops);

static inline tally_status_t
backend_open(const tally_transport_host_t *host,
             const tally_transport_params_t *params, tally_transport_t **out)
{
    (void)host;
    (void)params;
    (void)out;
    return TALLY_ERR_UNSUPPORTED;
}

static inline void backend_close(tally_transport_t *transport)
{
    (void)transport;
}

static inline tally_status_t backend_address(tally_transport_t *transport,
                                             void *address, size_t *bytes)
{
    (void)transport;
    (void)address;
    *bytes = 0;
    return TALLY_OK;
}

static inline tally_status_t backend_connect(tally_transport_t *transport,
                                             int32_t peer, const void *address,
                                             size_t bytes,
                                             tally_endpoint_t **out)
{
    (void)transport;
    (void)peer;
    (void)address;
    (void)bytes;
    (void)out;
    return TALLY_ERR_UNSUPPORTED;
}

// To anybody, by the transport itself.
static inline tally_status_t
backend_connect_any(tally_transport_t *transport, int32_t peer,
                    const void *address, size_t bytes, tally_endpoint_t **out)
{
    (void)peer;
    (void)address;
    (void)bytes;
    *out = (tally_endpoint_t *)transport;
    return TALLY_OK;
}

static inline tally_status_t backend_tsend(tally_endpoint_t *endpoint,
                                           uint64_t tag, const void *buffer,
                                           size_t bytes,
                                           tally_request_t *request)
{
    (void)endpoint;
    (void)tag;
    (void)buffer;
    (void)bytes;
    request->status = TALLY_OK;
    return TALLY_OK;
}

static inline tally_status_t backend_trecv(tally_transport_t *transport,
                                           uint64_t tag, void *buffer,
                                           size_t bytes,
                                           tally_request_t *request)
{
    (void)transport;
    (void)tag;
    (void)buffer;
    (void)bytes;
    request->status = TALLY_OK;
    return TALLY_OK;
}

// Nothing ever comes.
static inline tally_status_t backend_trecv_nothing(tally_transport_t *transport,
                                                   uint64_t tag, void *buffer,
                                                   size_t bytes,
                                                   tally_request_t *request)
{
    (void)transport;
    (void)tag;
    (void)buffer;
    (void)bytes;
    request->status = TALLY_NOT_YET;
    return TALLY_OK;
}

static inline int backend_progress(tally_transport_t *transport)
{
    (void)transport;
    return 0;
}

static inline void backend_cancel(tally_transport_t *transport,
                                  tally_request_t *request)
{
    (void)transport;
    (void)request;
}

static inline tally_status_t backend_wait_fd(tally_transport_t *transport,
                                             int *fd)
{
    (void)transport;
    (void)fd;
    return TALLY_ERR_UNSUPPORTED;
}

// The members that every tagged table needs.
#define BACKEND_OPERATIONS                                                     \
    .kind = TALLY_TAGGED_P2P, .version = "of the tests", .open = backend_open, \
    .close = backend_close, .address = backend_address,                        \
    .connect = backend_connect, .tsend = backend_tsend,                        \
    .trecv = backend_trecv, .progress = backend_progress,                      \
    .cancel = backend_cancel, .wait_fd = backend_wait_fd, .message_max = 4096

#endif
