// SPDX-License-Identifier: BSD-3-Clause
// A test backend: nothing is wrong with it, and it does nothing.
#include "backend.h"

static const tally_transport_ops_t table = {
    .size = sizeof(table),
    .abi = TALLY_TRANSPORT_ABI,
    .name = "good",
    BACKEND_OPERATIONS,
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
