// SPDX-License-Identifier: BSD-3-Clause
// The end of a transport, bounded in time whatever the peers do.
#include <rdma/fi_endpoint.h>
#include <sched.h>

#include "core/clock.h"
#include "transport/ofi/ofi.h"

// Together less than the second that transport.h allows.
#define FLUSH_US_MAX 700000
#define READ_US_MAX 100000

// Reads in a row that find nothing, after which all is taken to be read: a
// provider takes from the network a little at a time, and does not tell.
#define IDLE_READS 64

// Receives do not end by themselves, even when the peer is gone. Sends are left
// to the flush.
static void cancel_receives(tally_transport_t *transport)
{
    struct ofi_ring *ring = &transport->posted;

    for (struct ofi_ring *i = ring->next; i != ring; i = i->next) {
        struct ofi_operation *operation = ofi_ring_operation(i);
        if (operation->endpoint == NULL)
            fi_cancel(&transport->ep->fid, &operation->context);
    }
    while (!ofi_ring_is_empty(&transport->waiting))
        ofi_operation_end(transport, ofi_ring_first(&transport->waiting),
                          TALLY_ERR_TRANSPORT, 0);
}

// A peer that stopped reading, or is gone, holds this up: hence the bound.
static void flush_sends(tally_transport_t *transport)
{
    int64_t deadline_us = clock_now_us() + FLUSH_US_MAX;

    while (transport->sending_count > 0 && clock_now_us() < deadline_us) {
        int events = ofi_progress(transport);
        if (events < 0)
            return;
        if (events == 0)
            sched_yield(); // ranks may outnumber processors
    }
}

// A socket that is closed with something unread in it is reset, and the reset
// throws away what the kernel had still to send.
static void read_all(tally_transport_t *transport)
{
    int64_t deadline_us = clock_now_us() + READ_US_MAX;
    int idle = 0;

    while (idle < IDLE_READS && clock_now_us() < deadline_us) {
        int events = ofi_progress(transport);
        if (events < 0)
            return;
        idle = events == 0 ? idle + 1 : 0;
    }
}

void ofi_close(tally_transport_t *transport)
{
    transport->closing = true;
    cancel_receives(transport);
    flush_sends(transport);
    read_all(transport);
    ofi_worker_release(transport);
}

void ofi_abandon(tally_transport_t *transport)
{
    transport->closing = true;
    cancel_receives(transport);
    ofi_worker_release(transport);
}
