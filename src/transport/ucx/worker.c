// SPDX-License-Identifier: BSD-3-Clause
// The worker: one for each transport object, with resources of its own.
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "transport/ucx/status.h"
#include "transport/ucx/ucx.h"

// What a worker opens, and some peers' connections.
#define DESCRIPTORS_NEEDED 16

// UCX aborts the process where it lacks a descriptor at the wrong place.
static tally_status_t check_descriptors(const tally_transport_host_t *host)
{
    int held[DESCRIPTORS_NEEDED];
    int count = 0;

    while (count < DESCRIPTORS_NEEDED &&
           (held[count] = eventfd(0, EFD_CLOEXEC)) >= 0)
        count++;
    for (int i = 0; i < count; i++)
        close(held[i]);
    if (count == DESCRIPTORS_NEEDED)
        return TALLY_OK;
    return ucx_fail(host, TALLY_ERR_TRANSPORT,
                    "UCX needs %d file descriptors, and %d are left "
                    "(ulimit -n)",
                    DESCRIPTORS_NEEDED, count);
}

static tally_status_t create_worker(tally_transport_t *transport)
{
    const ucp_worker_params_t params = {
        .field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
        // As transport.h has it: any thread, one at a time.
        .thread_mode = UCS_THREAD_MODE_SERIALIZED,
    };
    const struct ucx_library *library = &transport->library;
    ucs_status_t ucx =
        library->worker_create(transport->context, &params, &transport->worker);

    if (ucx != UCS_OK)
        return ucx_fail(transport->host, TALLY_ERR_TRANSPORT,
                        "UCX cannot create a worker: %s",
                        library->status_string(ucx));
    return TALLY_OK;
}

tally_status_t ucx_worker_open(const tally_transport_host_t *host,
                               const tally_transport_params_t *params,
                               tally_transport_t **out)
{
    tally_transport_t *transport =
        host->allocate(host->context, sizeof(*transport));
    tally_status_t status;

    if (transport == NULL)
        return ucx_fail(host, TALLY_ERR_MEMORY, "no memory for a UCX worker");
    transport->host = host;
    transport->pending.next = &transport->pending;
    transport->pending.previous = &transport->pending;
    status = check_descriptors(host);
    if (status != TALLY_OK)
        goto release_transport;
    status = ucx_library_open(host, &transport->library);
    if (status != TALLY_OK)
        goto release_transport;
    status = ucx_context_open(host, params, &transport->library,
                              &transport->context);
    if (status != TALLY_OK)
        goto close_library;
    status = create_worker(transport);
    if (status != TALLY_OK)
        goto close_context;
    *out = transport;
    return TALLY_OK;

close_context:
    transport->library.cleanup(transport->context);
close_library:
    ucx_library_close(&transport->library);
release_transport:
    host->release(host->context, transport);
    return status;
}

tally_status_t ucx_worker_address(tally_transport_t *transport, void *address,
                                  size_t *bytes)
{
    const struct ucx_library *library = &transport->library;
    ucp_address_t *own;
    size_t length;
    tally_status_t status = TALLY_OK;
    ucs_status_t ucx =
        library->worker_get_address(transport->worker, &own, &length);

    if (ucx != UCS_OK)
        return ucx_fail(transport->host, ucx_status(ucx),
                        "UCX gives no address: %s",
                        library->status_string(ucx));
    if (length > *bytes) {
        status = ucx_fail(transport->host, TALLY_ERR_MEMORY,
                          "UCX's address has %zu bytes, the room %zu", length,
                          *bytes);
    } else {
        memcpy(address, own, length);
        *bytes = length;
    }
    library->worker_release_address(transport->worker, own);
    return status;
}

int ucx_worker_progress(tally_transport_t *transport)
{
    return (int)transport->library.worker_progress(transport->worker);
}

tally_status_t ucx_worker_wait_fd(tally_transport_t *transport, int *fd)
{
    const struct ucx_library *library = &transport->library;
    ucs_status_t ucx = library->worker_arm(transport->worker);

    if (ucx == UCS_ERR_BUSY)
        return TALLY_NOT_YET;
    if (ucx == UCS_OK)
        ucx = library->worker_get_efd(transport->worker, fd);
    if (ucx == UCS_OK)
        return TALLY_OK;
    return ucx_fail(transport->host,
                    ucx == UCS_ERR_UNSUPPORTED ? TALLY_ERR_UNSUPPORTED
                                               : ucx_status(ucx),
                    "UCX's worker has no descriptor to wait on: %s",
                    library->status_string(ucx));
}
