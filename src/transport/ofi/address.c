// SPDX-License-Identifier: BSD-3-Clause
// Addresses as ranks exchange them, and endpoints to them.
#include <rdma/fi_cm.h>
#include <rdma/fi_errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "transport/ofi/ofi.h"
#include "transport/ofi/status.h"

#define PROVIDER_BYTES 40
#define NAME_BYTES_MAX 512

// What names of endpoints mean depends on the provider, so it goes with them:
// two ranks may have chosen differently.
struct address {
    char provider[PROVIDER_BYTES];
    uint32_t format;
    uint32_t bytes;
    unsigned char name[NAME_BYTES_MAX];
};

#define HEAD_BYTES offsetof(struct address, name)

static tally_status_t read_own(const tally_transport_t *transport,
                               struct address *out)
{
    size_t bytes = sizeof(out->name);

    memset(out, 0, sizeof(*out));
    snprintf(out->provider, sizeof(out->provider), "%s",
             transport->info->fabric_attr->prov_name);
    out->format = transport->info->addr_format;
    int result = fi_getname(&transport->ep->fid, out->name, &bytes);
    if (result != 0)
        return ofi_fail(transport->host, ofi_status(-result),
                        "libfabric gives no address: %s",
                        transport->library.strerror(-result));
    out->bytes = (uint32_t)bytes;
    return TALLY_OK;
}

tally_status_t ofi_address_read(tally_transport_t *transport, void *address,
                                size_t *bytes)
{
    struct address own;
    tally_status_t status = read_own(transport, &own);

    if (status != TALLY_OK)
        return status;
    size_t length = HEAD_BYTES + own.bytes;
    if (length > *bytes)
        return ofi_fail(transport->host, TALLY_ERR_MEMORY,
                        "libfabric's address has %zu bytes, the room %zu",
                        length, *bytes);
    memcpy(address, &own, length);
    *bytes = length;
    return TALLY_OK;
}

// Whether it is an address of what is open here.
static tally_status_t check_peer(const tally_transport_t *transport,
                                 int32_t peer, const struct address *address,
                                 size_t bytes)
{
    const struct fi_info *info = transport->info;

    if (bytes < HEAD_BYTES || address->bytes != bytes - HEAD_BYTES ||
        address->provider[PROVIDER_BYTES - 1] != '\0')
        return ofi_fail(transport->host, TALLY_ERR_MISMATCH,
                        "the address of rank %d is not one of libtally-ofi.so",
                        (int)peer);
    if (strcmp(address->provider, info->fabric_attr->prov_name) != 0 ||
        address->format != info->addr_format)
        return ofi_fail(transport->host, TALLY_ERR_MISMATCH,
                        "rank %d uses libfabric's %s (addresses of format %u), "
                        "this rank %s (format %u): TALLY_OFI_PROVIDER and "
                        "TALLY_OFI_DOMAIN choose",
                        (int)peer, address->provider, address->format,
                        info->fabric_attr->prov_name, info->addr_format);
    return TALLY_OK;
}

tally_status_t ofi_address_connect(tally_transport_t *transport, int32_t peer,
                                   const void *address, size_t bytes,
                                   tally_endpoint_t **out)
{
    const tally_transport_host_t *host = transport->host;
    struct address theirs = {.bytes = 0};
    tally_endpoint_t *endpoint;

    memcpy(&theirs, address, bytes < sizeof(theirs) ? bytes : sizeof(theirs));
    tally_status_t status = check_peer(transport, peer, &theirs, bytes);
    if (status != TALLY_OK)
        return status;
    endpoint = host->allocate(host->context, sizeof(*endpoint));
    if (endpoint == NULL)
        return ofi_fail(host, TALLY_ERR_MEMORY,
                        "no memory for an endpoint to rank %d", (int)peer);
    int result = fi_av_insert(transport->av, theirs.name, 1, &endpoint->address,
                              0, NULL);
    if (result != 1) {
        host->release(host->context, endpoint);
        return ofi_fail(
            host, TALLY_ERR_TRANSPORT,
            "libfabric does not take the address of rank %d: %s", (int)peer,
            transport->library.strerror(result < 0 ? -result : FI_EINVAL));
    }
    endpoint->transport = transport;
    endpoint->peer = peer;
    ofi_ring_init(&endpoint->waiting);
    endpoint->next = transport->endpoints;
    transport->endpoints = endpoint;
    *out = endpoint;
    return TALLY_OK;
}
