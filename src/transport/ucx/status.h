// SPDX-License-Identifier: BSD-3-Clause
// UCX's status codes as Tally's, and sentences for the host.
#ifndef TRANSPORT_UCX_STATUS_H
#define TRANSPORT_UCX_STATUS_H

#include <tally/transport.h>
#include <ucs/type/status.h>

tally_status_t ucx_status(ucs_status_t status);

// Records the sentence and returns `status`.
tally_status_t ucx_fail(const tally_transport_host_t *host,
                        tally_status_t status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
