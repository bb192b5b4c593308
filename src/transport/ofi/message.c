// SPDX-License-Identifier: BSD-3-Clause
// Tagged messages: how they are posted, wait for room, fail and are cancelled.
#include <assert.h>
#include <rdma/fi_errno.h>
#include <string.h>

#include "transport/ofi/ofi.h"
#include "transport/ofi/status.h"

#define TAG_BITS_IGNORED 0

// The buffer is free again on return. fi_tinject would not tell when the
// message is out, and close must know.
static ssize_t inject(tally_transport_t *transport,
                      struct ofi_operation *operation)
{
    const struct iovec part = {operation->into, operation->bytes};
    const struct fi_msg_tagged message = {
        .msg_iov = &part,
        .iov_count = operation->bytes > 0,
        .addr = operation->endpoint->address,
        .tag = operation->tag,
        .context = &operation->context,
    };
    ssize_t result =
        fi_tsendmsg(transport->ep, &message, FI_INJECT | FI_COMPLETION);

    if (result == 0) {
        operation->request->status = TALLY_OK;
        operation->request->handle = NULL;
        operation->request = NULL;
    }
    return result;
}

static ssize_t post_send(tally_transport_t *transport,
                         struct ofi_operation *operation)
{
    const void *buffer = operation->from;
    void *descriptor = NULL;

    if (operation->bytes <= transport->info->tx_attr->inject_size)
        return inject(transport, operation);
    if (operation->registered != NULL) {
        descriptor = operation->registered->descriptor;
        buffer = operation->registered->memory;
        memcpy(operation->registered->memory, operation->from,
               operation->bytes);
    }
    return fi_tsend(transport->ep, buffer, operation->bytes, descriptor,
                    operation->endpoint->address, operation->tag,
                    &operation->context);
}

static ssize_t post_receive(tally_transport_t *transport,
                            struct ofi_operation *operation)
{
    void *buffer = operation->into;
    void *descriptor = NULL;

    if (operation->registered != NULL) {
        descriptor = operation->registered->descriptor;
        buffer = operation->registered->memory;
    }
    return fi_trecv(transport->ep, buffer, operation->bytes, descriptor,
                    FI_ADDR_UNSPEC, operation->tag, TAG_BITS_IGNORED,
                    &operation->context);
}

// 0, or a positive fi_errno value; FI_EAGAIN: not now.
static int post(tally_transport_t *transport, struct ofi_operation *operation)
{
    if (transport->registers && operation->registered == NULL) {
        int error = registered_take(&transport->registered, operation->bytes,
                                    &operation->registered);
        if (error != 0)
            return error;
    }
    return (int)-(operation->endpoint != NULL
                      ? post_send(transport, operation)
                      : post_receive(transport, operation));
}

// Sends to who is lost end at once, those that wait too.
static void note_lost(tally_endpoint_t *endpoint, int error)
{
    tally_transport_t *transport = endpoint->transport;
    const tally_transport_host_t *host = transport->host;

    if (endpoint->lost != 0)
        return;
    endpoint->lost = error;
    if (!transport->closing)
        host->peer_lost(host->context, endpoint->peer,
                        transport->library.strerror(error));
    while (!ofi_ring_is_empty(&endpoint->waiting))
        ofi_operation_end(transport, ofi_ring_first(&endpoint->waiting),
                          TALLY_ERR_PEER, 0);
}

static tally_status_t say_why(const tally_transport_t *transport,
                              const tally_endpoint_t *endpoint, int error)
{
    const char *why = transport->library.strerror(error);
    tally_status_t status = ofi_status(error);

    if (endpoint == NULL)
        return ofi_fail(transport->host, status, "a receive failed: %s", why);
    return ofi_fail(transport->host, status, "a send to rank %d failed: %s",
                    (int)endpoint->peer, why);
}

tally_status_t ofi_message_failed(tally_transport_t *transport,
                                  struct ofi_operation *operation, int error)
{
    tally_endpoint_t *endpoint = operation->endpoint;
    tally_status_t status = say_why(transport, endpoint, error);

    ofi_operation_end(transport, operation, status, 0);
    if (endpoint != NULL && status == TALLY_ERR_PEER)
        note_lost(endpoint, error);
    return status;
}

// What waits on `ring` goes first.
static tally_status_t post_or_wait(tally_transport_t *transport,
                                   const struct ofi_ring *ring,
                                   struct ofi_operation *operation)
{
    int error =
        ofi_ring_is_empty(ring) ? post(transport, operation) : FI_EAGAIN;

    if (error == 0) {
        ofi_operation_to_posted(transport, operation);
        return TALLY_OK;
    }
    if (error == FI_EAGAIN) {
        ofi_operation_to_waiting(transport, operation);
        return TALLY_OK;
    }
    return ofi_message_failed(transport, operation, error);
}

static struct ofi_operation *make(tally_transport_t *transport, uint64_t tag,
                                  size_t bytes, tally_request_t *request)
{
    struct ofi_operation *operation = ofi_operation_take(transport);

    assert(bytes <= OFI_MESSAGE_BYTES_MAX);
    if (operation == NULL) {
        ofi_fail(transport->host, TALLY_ERR_MEMORY, "no memory for a message");
        return NULL;
    }
    operation->request = request;
    operation->tag = tag;
    operation->bytes = bytes;
    *request = (tally_request_t){
        .status = TALLY_NOT_YET,
        .handle = operation,
        .owner = transport,
    };
    return operation;
}

tally_status_t ofi_message_send(tally_endpoint_t *endpoint, uint64_t tag,
                                const void *buffer, size_t bytes,
                                tally_request_t *request)
{
    tally_transport_t *transport = endpoint->transport;

    if (endpoint->lost != 0)
        return ofi_fail(transport->host, TALLY_ERR_PEER,
                        "rank %d was lost before: %s", (int)endpoint->peer,
                        transport->library.strerror(endpoint->lost));
    struct ofi_operation *operation = make(transport, tag, bytes, request);
    if (operation == NULL)
        return TALLY_ERR_MEMORY;
    operation->from = buffer;
    operation->endpoint = endpoint;
    transport->sending_count++;
    return post_or_wait(transport, &endpoint->waiting, operation);
}

tally_status_t ofi_message_receive(tally_transport_t *transport, uint64_t tag,
                                   void *buffer, size_t bytes,
                                   tally_request_t *request)
{
    struct ofi_operation *operation = make(transport, tag, bytes, request);

    if (operation == NULL)
        return TALLY_ERR_MEMORY;
    operation->into = buffer;
    return post_or_wait(transport, &transport->waiting, operation);
}

void ofi_message_cancel(tally_transport_t *transport, tally_request_t *request)
{
    struct ofi_operation *operation = request->handle;

    if (request->status != TALLY_NOT_YET)
        return;
    if (operation->posted)
        fi_cancel(&transport->ep->fid, &operation->context);
    else
        ofi_message_failed(transport, operation, FI_ECANCELED);
}

static void post_ring(tally_transport_t *transport, struct ofi_ring *ring)
{
    while (!ofi_ring_is_empty(ring)) {
        struct ofi_operation *operation = ofi_ring_first(ring);
        int error = post(transport, operation);
        if (error == FI_EAGAIN)
            return;
        if (error == 0)
            ofi_operation_to_posted(transport, operation);
        else
            ofi_message_failed(transport, operation, error);
    }
}

void ofi_message_post_waiting(tally_transport_t *transport)
{
    if (transport->waiting_count == 0)
        return;
    post_ring(transport, &transport->waiting);
    for (tally_endpoint_t *i = transport->endpoints; i != NULL; i = i->next)
        post_ring(transport, &i->waiting);
}
