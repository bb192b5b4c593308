// SPDX-License-Identifier: BSD-3-Clause
// libtally-ucx.so as transport.h sees it: the one exported function and the
// table it hands out.
#include "transport/ucx/ucx.h"
#include "transport/ucx/status.h"

#define TEXT(number) #number
#define BUILT(major, minor) "built against UCX " TEXT(major) "." TEXT(minor)

static const tally_transport_ops_t ops = {
    .size = sizeof(ops),
    .abi = TALLY_TRANSPORT_ABI,
    .kind = TALLY_TAGGED_P2P,
    .name = "ucx",
    .version = BUILT(UCP_API_MAJOR, UCP_API_MINOR),
    .open = ucx_worker_open,
    .close = ucx_worker_close,
    .address = ucx_worker_address,
    .connect = ucx_endpoint_connect,
    .tsend = ucx_message_send,
    .trecv = ucx_message_receive,
    .progress = ucx_worker_progress,
    .cancel = ucx_message_cancel,
    .wait_fd = ucx_worker_wait_fd,
    .message_max = UCX_MESSAGE_BYTES_MAX,
    .library_version = ucx_library_version,
    .abandon = ucx_worker_abandon,
    .devices = ucx_devices,
};

TALLY_API tally_status_t
tallyTransport_query(uint32_t host_abi, const tally_transport_host_t *host,
                     const tally_transport_ops_t **out);

tally_status_t tallyTransport_query(uint32_t host_abi,
                                    const tally_transport_host_t *host,
                                    const tally_transport_ops_t **out)
{
    struct ucx_library library;
    tally_status_t status;

    if (host_abi < TALLY_TRANSPORT_ABI)
        return ucx_fail(host, TALLY_ERR_ABI,
                        "libtally-ucx.so needs transport ABI %u, this Tally "
                        "speaks %u",
                        (unsigned)TALLY_TRANSPORT_ABI, (unsigned)host_abi);
    // Whether there is a UCX that fits is told now, not at open.
    status = ucx_library_open(host, &library);
    if (status != TALLY_OK)
        return status;
    ucx_library_close(&library);
    *out = &ops;
    return TALLY_OK;
}
