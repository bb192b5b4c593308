// SPDX-License-Identifier: BSD-3-Clause
// A test backend: it speaks the ABI before the first.
#include "backend.h"

static const tally_transport_ops_t table = {
    .size = sizeof(table),
    .abi = 0,
    .name = "older",
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
