// SPDX-License-Identifier: BSD-3-Clause
// NCCL's result codes as Tally's, and sentences for the host.
#ifndef TRANSPORT_NCCL_STATUS_H
#define TRANSPORT_NCCL_STATUS_H

#include <nccl.h>
#include <tally/transport.h>

tally_status_t nccl_status(ncclResult_t result);

// Records the sentence and returns `status`.
tally_status_t nccl_fail(const tally_transport_host_t *host,
                         tally_status_t status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
