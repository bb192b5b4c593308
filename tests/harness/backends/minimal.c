// SPDX-License-Identifier: BSD-3-Clause
// A test backend: of ABI 1 as it was before library_version, and good.
#include "backend.h"

static const tally_transport_ops_t table = {
    .size = offsetof(tally_transport_ops_t, library_version),
    .abi = 1,
    .name = "minimal",
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
