// SPDX-License-Identifier: BSD-3-Clause
// A test backend: its library hangs when it is opened.
#include <unistd.h>

#include "backend.h"

static tally_status_t hang(const tally_transport_host_t *host,
                           const tally_transport_params_t *params,
                           tally_transport_t **out)
{
    (void)host;
    (void)params;
    (void)out;
    for (;;)
        pause();
    return TALLY_ERR_UNSUPPORTED;
}

static const tally_transport_ops_t table = {
    .size = sizeof(table),
    .abi = TALLY_TRANSPORT_ABI,
    .name = "stuck",
    .kind = TALLY_TAGGED_P2P,
    .version = "of the tests",
    .open = hang,
    .close = backend_close,
    .address = backend_address,
    .connect = backend_connect,
    .tsend = backend_tsend,
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
