// SPDX-License-Identifier: BSD-3-Clause
// A test backend that cannot be loaded: it needs a function that nobody has.
#include "backend.h"

void no_library_has_this(void);

tally_status_t tallyTransport_query(uint32_t host_abi,
                                    const tally_transport_host_t *host,
                                    const tally_transport_ops_t **ops)
{
    (void)host_abi;
    (void)host;
    (void)ops;
    no_library_has_this();
    return TALLY_OK;
}
