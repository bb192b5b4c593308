// SPDX-License-Identifier: BSD-3-Clause
// libfabric's error numbers as Tally's statuses, and sentences for the host.
#ifndef TRANSPORT_OFI_STATUS_H
#define TRANSPORT_OFI_STATUS_H

#include <tally/transport.h>

// Of a positive fi_errno value.
tally_status_t ofi_status(int error);

// Records the sentence and returns `status`.
tally_status_t ofi_fail(const tally_transport_host_t *host,
                        tally_status_t status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
