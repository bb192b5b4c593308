// SPDX-License-Identifier: BSD-3-Clause
// A test backend: its table was made before message_max was in it.
#include "backend.h"

static const tally_transport_ops_t table = {
    .size = offsetof(tally_transport_ops_t, message_max),
    .abi = TALLY_TRANSPORT_ABI,
    .name = "short",
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
