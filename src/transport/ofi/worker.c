// SPDX-License-Identifier: BSD-3-Clause
// The worker: libfabric's objects from the fabric to the endpoint, one set for
// each transport object.
#include <inttypes.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "transport/ofi/ofi.h"
#include "transport/ofi/status.h"
#include "transport/signals.h"

static tally_status_t open_failed(const tally_transport_t *transport,
                                  const char *what, int result)
{
    return ofi_fail(transport->host, TALLY_ERR_TRANSPORT,
                    "libfabric's %s cannot open %s (domain %s): %s",
                    transport->info->fabric_attr->prov_name, what,
                    transport->info->domain_attr->name,
                    transport->library.strerror(-result));
}

static tally_status_t open_domain(tally_transport_t *transport)
{
    struct fi_info *info = transport->info;
    struct fi_av_attr av = {
        .type = info->domain_attr->av_type != FI_AV_UNSPEC
                    ? info->domain_attr->av_type
                    : FI_AV_MAP,
    };
    int result =
        transport->library.fabric(info->fabric_attr, &transport->fabric, NULL);

    if (result != 0)
        return open_failed(transport, "a fabric", result);
    result = fi_domain(transport->fabric, info, &transport->domain, NULL);
    if (result != 0)
        return open_failed(transport, "a domain", result);
    result = fi_av_open(transport->domain, &av, &transport->av, NULL);
    if (result != 0)
        return open_failed(transport, "an address vector", result);
    return TALLY_OK;
}

// With a descriptor to wait on where the provider has one.
static tally_status_t open_queue(tally_transport_t *transport)
{
    const struct fi_info *info = transport->info;
    struct fi_cq_attr cq = {
        .size = info->tx_attr->size + info->rx_attr->size,
        .format = FI_CQ_FORMAT_MSG,
        .wait_obj = FI_WAIT_FD,
    };

    transport->wait_fd = -1;
    if (fi_cq_open(transport->domain, &cq, &transport->cq, NULL) == 0) {
        int fd;
        if (fi_control(&transport->cq->fid, FI_GETWAIT, &fd) == 0)
            transport->wait_fd = fd;
        return TALLY_OK;
    }
    cq.wait_obj = FI_WAIT_NONE;
    int result = fi_cq_open(transport->domain, &cq, &transport->cq, NULL);
    if (result != 0)
        return open_failed(transport, "a completion queue", result);
    return TALLY_OK;
}

// libfabric's shm names its segment by the process's id. One that was killed
// leaves its segment behind, and a process that is given the same id later, or
// has it in another PID namespace, then finds the name taken.
static int name_segment(tally_transport_t *transport)
{
    char name[48];
    uint64_t number;

    if (strcmp(transport->info->fabric_attr->prov_name, "shm") != 0)
        return 0;
    if (getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number))
        return -FI_EAGAIN;
    snprintf(name, sizeof(name), "fi_shm://tally-ofi-%016" PRIx64, number);
    return fi_setname(&transport->ep->fid, name, strlen(name) + 1);
}

static tally_status_t open_endpoint(tally_transport_t *transport)
{
    int result =
        fi_endpoint(transport->domain, transport->info, &transport->ep, NULL);

    if (result == 0)
        result = name_segment(transport);
    if (result == 0)
        result = fi_ep_bind(transport->ep, &transport->av->fid, 0);
    if (result == 0)
        result = fi_ep_bind(transport->ep, &transport->cq->fid,
                            FI_TRANSMIT | FI_RECV);
    if (result == 0)
        result = fi_enable(transport->ep);
    if (result != 0)
        return open_failed(transport, "an endpoint", result);
    return TALLY_OK;
}

static void prepare_registered(tally_transport_t *transport)
{
    int mode = transport->info->domain_attr->mr_mode;

    transport->registers = (mode & FI_MR_LOCAL) != 0;
    transport->registered = (struct registered){
        .host = transport->host,
        .domain = transport->domain,
        .ep = (mode & FI_MR_ENDPOINT) != 0 ? transport->ep : NULL,
    };
}

// Providers catch signals when they are started (PSM), or when an endpoint is
// opened (shm).
static tally_status_t open_quietly(tally_transport_t *transport,
                                   const tally_transport_params_t *params)
{
    struct signals signals;

    signals_save(&signals);
    tally_status_t status = ofi_provider_choose(
        transport->host, params, &transport->library, &transport->info);
    if (status == TALLY_OK)
        status = open_domain(transport);
    if (status == TALLY_OK)
        status = open_queue(transport);
    if (status == TALLY_OK)
        status = open_endpoint(transport);
    signals_restore(&signals);
    return status;
}

tally_status_t ofi_worker_open(const tally_transport_host_t *host,
                               const tally_transport_params_t *params,
                               tally_transport_t **out)
{
    tally_transport_t *transport =
        host->allocate(host->context, sizeof(*transport));
    tally_status_t status;

    if (transport == NULL)
        return ofi_fail(host, TALLY_ERR_MEMORY,
                        "no memory for a libfabric endpoint");
    transport->host = host;
    ofi_ring_init(&transport->posted);
    ofi_ring_init(&transport->waiting);
    ofi_ring_init(&transport->idle);
    status = ofi_library_open(host, &transport->library);
    if (status != TALLY_OK) {
        host->release(host->context, transport);
        return status;
    }
    status = open_quietly(transport, params);
    if (status != TALLY_OK) {
        ofi_worker_release(transport);
        return status;
    }
    prepare_registered(transport);
    *out = transport;
    return TALLY_OK;
}

static void close_endpoint(tally_transport_t *transport)
{
    int result = fi_close(&transport->ep->fid);

    registered_close(&transport->registered);
    // Some do not let an endpoint go while memory is registered for it.
    if (result == -FI_EBUSY)
        fi_close(&transport->ep->fid);
}

void ofi_worker_release(tally_transport_t *transport)
{
    const tally_transport_host_t *host = transport->host;

    if (transport->ep != NULL)
        close_endpoint(transport);
    ofi_operation_end_all(transport);
    if (transport->cq != NULL)
        fi_close(&transport->cq->fid);
    if (transport->av != NULL)
        fi_close(&transport->av->fid);
    if (transport->domain != NULL)
        fi_close(&transport->domain->fid);
    if (transport->fabric != NULL)
        fi_close(&transport->fabric->fid);
    if (transport->info != NULL)
        transport->library.freeinfo(transport->info);
    ofi_library_close(&transport->library);
    while (transport->endpoints != NULL) {
        tally_endpoint_t *endpoint = transport->endpoints;
        transport->endpoints = endpoint->next;
        host->release(host->context, endpoint);
    }
    ofi_operation_free_all(transport);
    host->release(host->context, transport);
}

tally_status_t ofi_worker_wait_fd(tally_transport_t *transport, int *fd)
{
    struct fid *queue = &transport->cq->fid;

    if (transport->wait_fd < 0)
        return ofi_fail(transport->host, TALLY_ERR_UNSUPPORTED,
                        "libfabric's %s has no descriptor to wait on",
                        transport->info->fabric_attr->prov_name);
    // What waits for room is posted by progress only.
    if (transport->waiting_count > 0)
        return TALLY_NOT_YET;
    int result = fi_trywait(transport->fabric, &queue, 1);
    if (result == -FI_EAGAIN)
        return TALLY_NOT_YET;
    if (result != 0)
        return ofi_fail(transport->host, ofi_status(-result),
                        "libfabric cannot be waited for: %s",
                        transport->library.strerror(-result));
    *fd = transport->wait_fd;
    return TALLY_OK;
}
