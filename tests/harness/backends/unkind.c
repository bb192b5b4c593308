// SPDX-License-Identifier: BSD-3-Clause
// A test backend: it is of a kind that does not exist.
#include "backend.h"

static const tally_transport_ops_t table = {
    .size = sizeof(table),
    .abi = TALLY_TRANSPORT_ABI,
    .kind = (tally_transport_kind_t)7,
    .name = "unkind",
    .version = "of the tests",
    .open = backend_open,
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
