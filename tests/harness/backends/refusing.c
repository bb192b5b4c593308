// SPDX-License-Identifier: BSD-3-Clause
// A test backend: its query refuses, and says why.
#include "backend.h"

tally_status_t tallyTransport_query(uint32_t host_abi,
                                    const tally_transport_host_t *host,
                                    const tally_transport_ops_t **ops)
{
    (void)host_abi;
    (void)ops;
    return host->fail(host->context, TALLY_ERR_TRANSPORT,
                      "built against Foo 3.1, the library loaded is 2.9");
}
