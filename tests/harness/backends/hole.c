// SPDX-License-Identifier: BSD-3-Clause
// A test backend: it leaves out an operation.
#include "backend.h"

static const tally_transport_ops_t table = {
    .size = sizeof(table),
    .abi = TALLY_TRANSPORT_ABI,
    .kind = TALLY_TAGGED_P2P,
    .name = "hole",
    .version = "of the tests",
    .open = backend_open,
    .close = backend_close,
    .address = backend_address,
    .connect = backend_connect,
    .trecv = backend_trecv,
    .progress = backend_progress,
    .cancel = backend_cancel,
    .wait_fd = backend_wait_fd,
    .message_max = 4096,
};

tally_status_t tallyTransport_query(uint32_t host_abi,
                                    const tally_transport_host_t *host,
                                    const tally_transport_ops_t **ops)
{
    (void)host_abi;
    (void)host;
    *ops = &table;
    return TALLY_OK;
}
