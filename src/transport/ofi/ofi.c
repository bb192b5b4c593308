// SPDX-License-Identifier: BSD-3-Clause
// libtally-ofi.so as transport.h sees it: the one exported function and the
// table it hands out.
#include "transport/ofi/ofi.h"
#include "transport/ofi/status.h"

#define TEXT(number) #number
#define BUILT(major, minor)                                                    \
    "built against libfabric " TEXT(major) "." TEXT(minor)

static const tally_transport_ops_t ops = {
    .size = sizeof(ops),
    .abi = TALLY_TRANSPORT_ABI,
    .kind = TALLY_TAGGED_P2P,
    .name = "ofi",
    .version = BUILT(FI_MAJOR_VERSION, FI_MINOR_VERSION),
    .open = ofi_worker_open,
    .close = ofi_close,
    .address = ofi_address_read,
    .connect = ofi_address_connect,
    .tsend = ofi_message_send,
    .trecv = ofi_message_receive,
    .progress = ofi_progress,
    .cancel = ofi_message_cancel,
    .wait_fd = ofi_worker_wait_fd,
    .message_max = OFI_MESSAGE_BYTES_MAX,
    .library_version = ofi_library_version,
    .abandon = ofi_abandon,
    .devices = ofi_devices,
};

TALLY_API tally_status_t
tallyTransport_query(uint32_t host_abi, const tally_transport_host_t *host,
                     const tally_transport_ops_t **out);

tally_status_t tallyTransport_query(uint32_t host_abi,
                                    const tally_transport_host_t *host,
                                    const tally_transport_ops_t **out)
{
    struct ofi_library library;
    tally_status_t status;

    if (host_abi < TALLY_TRANSPORT_ABI)
        return ofi_fail(host, TALLY_ERR_ABI,
                        "libtally-ofi.so needs transport ABI %u, this Tally "
                        "speaks %u",
                        (unsigned)TALLY_TRANSPORT_ABI, (unsigned)host_abi);
    // Whether there is a libfabric that fits is told now, not at open.
    status = ofi_library_open(host, &library);
    if (status != TALLY_OK)
        return status;
    ofi_library_close(&library);
    *out = &ops;
    return TALLY_OK;
}
