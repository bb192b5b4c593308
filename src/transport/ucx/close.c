// SPDX-License-Identifier: BSD-3-Clause
// The end of a transport, bounded in time whatever the peers do.
#include "core/clock.h"
#include "transport/ucx/ucx.h"

// Together, and with the turns below, the second that transport.h allows.
#define FLUSH_US_MAX 700000
#define READ_US_MAX 100000
#define CLOSE_US_MAX 150000
// More than a worker has endpoints, those that UCX makes for peers among them.
#define FLUSH_TURNS_MAX 10000

// Receives never end by themselves, even when the peer is gone. Sends are left
// to the flush.
static void cancel_receives(tally_transport_t *transport)
{
    struct ucx_pending *pending = transport->pending.next;

    while (pending != &transport->pending) {
        struct ucx_pending *next = pending->next; // cancelling may remove it
        if (pending->request->owner == transport)
            ucx_message_cancel(transport, pending->request);
        pending = next;
    }
}

static bool has_live_endpoint(const tally_transport_t *transport)
{
    for (const struct tally_endpoint *i = transport->endpoints; i != NULL;
         i = i->next)
        if (i->lost == UCS_OK)
            return true;
    return false;
}

static bool in_progress(const tally_transport_t *transport, void *request)
{
    return transport->library.request_check_status(request) == UCS_INPROGRESS;
}

static bool has_pending(const tally_transport_t *transport)
{
    return transport->pending.next != &transport->pending;
}

static bool may_go_on(const tally_transport_t *transport, int64_t deadline_us)
{
    return has_live_endpoint(transport) && clock_now_us() < deadline_us;
}

// First the sends themselves: UCX's flush may overtake those that wait for
// room. A peer that stopped reading holds this up: hence the bound.
static void flush_endpoints(tally_transport_t *transport)
{
    const struct ucx_library *library = &transport->library;
    const ucp_request_param_t param = {.op_attr_mask = 0};
    int64_t deadline_us = clock_now_us() + FLUSH_US_MAX;

    while (has_pending(transport) && may_go_on(transport, deadline_us))
        library->worker_progress(transport->worker);
    if (!may_go_on(transport, deadline_us))
        return;
    void *request = library->worker_flush_nbx(transport->worker, &param);
    if (!UCS_PTR_IS_PTR(request))
        return;
    transport->flush = request;
    while (in_progress(transport, request) && may_go_on(transport, deadline_us))
        library->worker_progress(transport->worker);
}

// A socket that is closed with something unread in it is reset, and the reset
// throws away what the kernel had still to send.
static void read_all(tally_transport_t *transport)
{
    int64_t deadline_us = clock_now_us() + READ_US_MAX;

    while (transport->library.worker_progress(transport->worker) != 0 &&
           clock_now_us() < deadline_us)
        ;
}

// By force, as a polite close would wait for the peer; what could be flushed,
// was.
static void start_closing(tally_transport_t *transport)
{
    const ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
        .flags = UCP_EP_CLOSE_FLAG_FORCE,
    };

    for (struct tally_endpoint *i = transport->endpoints; i != NULL;
         i = i->next) {
        void *request = transport->library.ep_close_nbx(i->handle, &param);
        i->closing = UCS_PTR_IS_PTR(request) ? request : NULL;
    }
}

static bool is_closing(const tally_transport_t *transport)
{
    for (const struct tally_endpoint *i = transport->endpoints; i != NULL;
         i = i->next)
        if (i->closing != NULL && in_progress(transport, i->closing))
            return true;
    return has_pending(transport);
}

static void free_closing(tally_transport_t *transport)
{
    for (struct tally_endpoint *i = transport->endpoints; i != NULL;
         i = i->next)
        if (i->closing != NULL)
            transport->library.request_free(i->closing);
}

static void close_endpoints(tally_transport_t *transport)
{
    int64_t deadline_us = clock_now_us() + CLOSE_US_MAX;

    start_closing(transport);
    while (is_closing(transport) && clock_now_us() < deadline_us)
        transport->library.worker_progress(transport->worker);
    free_closing(transport);
}

// UCX's flush goes from endpoint to endpoint, one a turn, and holds the next: a
// worker that is destroyed meanwhile aborts the process. Where it was left, it
// ends by itself once all are closed, whatever the peers do; so turns are
// counted, as time may pass without one.
static void end_flush(tally_transport_t *transport)
{
    const struct ucx_library *library = &transport->library;

    if (transport->flush == NULL)
        return;
    for (int turn = 0;
         turn < FLUSH_TURNS_MAX && in_progress(transport, transport->flush);
         turn++)
        library->worker_progress(transport->worker);
    library->request_free(transport->flush);
}

static void release_endpoints(tally_transport_t *transport)
{
    const tally_transport_host_t *host = transport->host;

    while (transport->endpoints != NULL) {
        struct tally_endpoint *endpoint = transport->endpoints;
        transport->endpoints = endpoint->next;
        host->release(host->context, endpoint);
    }
}

static void destroy(tally_transport_t *transport)
{
    const tally_transport_host_t *host = transport->host;

    ucx_message_abandon_all(transport);
    transport->library.worker_destroy(transport->worker);
    transport->library.cleanup(transport->context);
    release_endpoints(transport);
    ucx_library_close(&transport->library);
    host->release(host->context, transport);
}

void ucx_worker_close(tally_transport_t *transport)
{
    transport->closing = true;
    cancel_receives(transport);
    if (has_live_endpoint(transport))
        flush_endpoints(transport);
    read_all(transport);
    ucx_message_discard_all(transport);
    close_endpoints(transport);
    end_flush(transport);
    destroy(transport);
}

void ucx_worker_abandon(tally_transport_t *transport)
{
    transport->closing = true;
    cancel_receives(transport);
    ucx_message_discard_all(transport);
    start_closing(transport);
    free_closing(transport);
    destroy(transport);
}
