// SPDX-License-Identifier: BSD-3-Clause
// Tagged messages. A request that does not complete at once is on the
// transport's ring until it does; that is how close finds it.
#include <assert.h>

#include "transport/ucx/status.h"
#include "transport/ucx/ucx.h"

#define TAG_MASK_ALL UINT64_MAX

static void ring_insert(tally_transport_t *transport, void *handle,
                        tally_request_t *request)
{
    struct ucx_pending *pending = handle;
    struct ucx_pending *head = &transport->pending;

    pending->request = request;
    pending->next = head;
    pending->previous = head->previous;
    head->previous->next = pending;
    head->previous = pending;
    request->handle = pending;
}

static void ring_remove(struct ucx_pending *pending)
{
    pending->previous->next = pending->next;
    pending->next->previous = pending->previous;
}

// The end of a request that was pending. `handle` is UCX's.
static void complete(const struct ucx_library *library, void *handle,
                     tally_request_t *request, tally_status_t status)
{
    // No handle: it completed before the post returned, so it is on no ring.
    if (request->handle != NULL)
        ring_remove(handle);
    request->handle = NULL;
    request->status = status;
    library->request_free(handle);
}

static tally_status_t send_failed(const tally_endpoint_t *endpoint,
                                  ucs_status_t ucx)
{
    const tally_transport_t *transport = endpoint->transport;

    return ucx_fail(transport->host, ucx_status(ucx),
                    "a send to rank %d failed: %s", (int)endpoint->peer,
                    transport->library.status_string(ucx));
}

static tally_status_t receive_failed(const tally_transport_t *transport,
                                     ucs_status_t ucx)
{
    return ucx_fail(transport->host, ucx_status(ucx), "a receive failed: %s",
                    transport->library.status_string(ucx));
}

static void sent(void *handle, ucs_status_t ucx, void *argument)
{
    tally_request_t *request = argument;
    const tally_endpoint_t *endpoint = request->owner;

    complete(&endpoint->transport->library, handle, request,
             ucx == UCS_OK ? TALLY_OK : send_failed(endpoint, ucx));
}

static void received(void *handle, ucs_status_t ucx,
                     const ucp_tag_recv_info_t *info, void *argument)
{
    tally_request_t *request = argument;
    const tally_transport_t *transport = request->owner;

    if (ucx == UCS_OK)
        request->bytes = (uint32_t)info->length;
    complete(&transport->library, handle, request,
             ucx == UCS_OK ? TALLY_OK : receive_failed(transport, ucx));
}

tally_status_t ucx_message_send(tally_endpoint_t *endpoint, uint64_t tag,
                                const void *buffer, size_t bytes,
                                tally_request_t *request)
{
    tally_transport_t *transport = endpoint->transport;
    const ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK |
                        UCP_OP_ATTR_FIELD_USER_DATA |
                        UCP_OP_ATTR_FIELD_MEMORY_TYPE,
        .cb = {.send = sent},
        .user_data = request,
        .memory_type = UCS_MEMORY_TYPE_HOST,
    };

    assert(bytes <= UCX_MESSAGE_BYTES_MAX);
    if (endpoint->lost != UCS_OK)
        return ucx_fail(transport->host, TALLY_ERR_PEER,
                        "rank %d was lost before: %s", (int)endpoint->peer,
                        transport->library.status_string(endpoint->lost));
    *request = (tally_request_t){.status = TALLY_NOT_YET, .owner = endpoint};
    void *handle = transport->library.tag_send_nbx(endpoint->handle, buffer,
                                                   bytes, tag, &param);
    if (handle == NULL)
        request->status = TALLY_OK;
    else if (UCS_PTR_IS_ERR(handle))
        return send_failed(endpoint, UCS_PTR_STATUS(handle));
    else if (request->status == TALLY_NOT_YET)
        ring_insert(transport, handle, request);
    return TALLY_OK;
}

tally_status_t ucx_message_receive(tally_transport_t *transport, uint64_t tag,
                                   void *buffer, size_t bytes,
                                   tally_request_t *request)
{
    // Not at once, but by the callback, if need be within the call: only there
    // the length is told.
    const ucp_request_param_t param = {
        .op_attr_mask =
            UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
            UCP_OP_ATTR_FIELD_MEMORY_TYPE | UCP_OP_ATTR_FLAG_NO_IMM_CMPL,
        .cb = {.recv = received},
        .user_data = request,
        .memory_type = UCS_MEMORY_TYPE_HOST,
    };

    assert(bytes <= UCX_MESSAGE_BYTES_MAX);
    *request = (tally_request_t){.status = TALLY_NOT_YET, .owner = transport};
    void *handle = transport->library.tag_recv_nbx(
        transport->worker, buffer, bytes, tag, TAG_MASK_ALL, &param);
    if (UCS_PTR_IS_ERR(handle))
        return receive_failed(transport, UCS_PTR_STATUS(handle));
    if (request->status == TALLY_NOT_YET)
        ring_insert(transport, handle, request);
    return TALLY_OK;
}

void ucx_message_cancel(tally_transport_t *transport, tally_request_t *request)
{
    if (request->status == TALLY_NOT_YET)
        transport->library.request_cancel(transport->worker, request->handle);
}

static void discarded(void *handle, ucs_status_t ucx,
                      const ucp_tag_recv_info_t *info, void *argument)
{
    const tally_transport_t *transport = argument;

    (void)ucx; // too short, as it has no room at all
    (void)info;
    transport->library.request_free(handle);
}

void ucx_message_discard_all(tally_transport_t *transport)
{
    const struct ucx_library *library = &transport->library;
    const ucp_request_param_t param = {
        .op_attr_mask =
            UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
        .cb = {.recv = discarded},
        .user_data = transport,
    };
    ucp_tag_recv_info_t info;

    while (library->tag_probe_nb(transport->worker, 0, 0, false, &info) != NULL)
        library->tag_recv_nbx(transport->worker, NULL, 0, 0, 0, &param);
}

void ucx_message_abandon_all(tally_transport_t *transport)
{
    while (transport->pending.next != &transport->pending) {
        struct ucx_pending *pending = transport->pending.next;
        ring_remove(pending);
        pending->request->handle = NULL;
        pending->request->status = TALLY_ERR_TRANSPORT;
    }
}
