// SPDX-License-Identifier: BSD-3-Clause
// libtally-nccl.so as transport.h sees it: the one exported function and the
// table it hands out; and what opens.
#include <stdio.h>

#include "transport/nccl/communicator.h"
#include "transport/nccl/status.h"

#define TEXT(number) #number
#define BUILT(major, minor, patch)                                             \
    "built against NCCL " TEXT(major) "." TEXT(minor) "." TEXT(patch)

static tally_status_t nccl_open(const tally_transport_host_t *host,
                                const tally_transport_params_t *params,
                                tally_transport_t **out)
{
    tally_transport_t *transport =
        host->allocate(host->context, sizeof(*transport));
    tally_status_t status;

    (void)params;
    if (transport == NULL)
        return nccl_fail(host, TALLY_ERR_MEMORY, "no memory for a transport");
    transport->host = host;
    status = cuda_driver_open(host, &transport->driver);
    if (status != TALLY_OK)
        goto release_transport;
    status = nccl_library_open(host, &transport->library);
    if (status != TALLY_OK)
        goto close_driver;
    *out = transport;
    return TALLY_OK;

close_driver:
    cuda_driver_close(&transport->driver);
release_transport:
    host->release(host->context, transport);
    return status;
}

static void nccl_close(tally_transport_t *transport)
{
    const tally_transport_host_t *host = transport->host;

    nccl_library_close(&transport->library);
    cuda_driver_close(&transport->driver);
    host->release(host->context, transport);
}

static tally_status_t nccl_devices(const tally_transport_host_t *host,
                                   char *text, size_t bytes)
{
    struct cuda_driver driver;
    tally_status_t status = cuda_driver_open(host, &driver);

    if (status != TALLY_OK)
        return status;
    snprintf(text, bytes, "%d CUDA devices", driver.devices);
    cuda_driver_close(&driver);
    return TALLY_OK;
}

static const tally_transport_ops_t ops = {
    .size = sizeof(ops),
    .abi = TALLY_TRANSPORT_ABI,
    .kind = TALLY_STREAM_COLLECTIVE,
    .name = "nccl",
    .version = BUILT(NCCL_MAJOR, NCCL_MINOR, NCCL_PATCH),
    .open = nccl_open,
    .close = nccl_close,
    .allreduce = communicator_sum,
    .library_version = nccl_library_version,
    .devices = nccl_devices,
    .allreduce_max = communicator_max,
    .group_id = communicator_id,
    .group_open = communicator_open,
    .group_poll = communicator_poll,
    .group_abort = communicator_abort,
    .group_close = communicator_close,
};

TALLY_API tally_status_t
tallyTransport_query(uint32_t host_abi, const tally_transport_host_t *host,
                     const tally_transport_ops_t **out);

tally_status_t tallyTransport_query(uint32_t host_abi,
                                    const tally_transport_host_t *host,
                                    const tally_transport_ops_t **out)
{
    struct nccl_library library;
    tally_status_t status;

    if (host_abi < TALLY_TRANSPORT_ABI)
        return nccl_fail(host, TALLY_ERR_ABI,
                         "libtally-nccl.so needs transport ABI %u, this Tally "
                         "speaks %u",
                         (unsigned)TALLY_TRANSPORT_ABI, (unsigned)host_abi);
    // Whether there is an NCCL that fits is told now, not at open.
    status = nccl_library_open(host, &library);
    if (status != TALLY_OK)
        return status;
    nccl_library_close(&library);
    *out = &ops;
    return TALLY_OK;
}
