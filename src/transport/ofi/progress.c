// SPDX-License-Identifier: BSD-3-Clause
// Progress: reading the completion queue, which drives a provider whether it
// moves by itself or not.
#include <rdma/fi_eq.h>
#include <rdma/fi_errno.h>

#include "transport/ofi/ofi.h"
#include "transport/ofi/status.h"

#define ENTRIES 16

static struct ofi_operation *operation_of(void *context)
{
    return (struct ofi_operation *)((char *)context -
                                    offsetof(struct ofi_operation, context));
}

// Returns the number of events, or an error.
static int read_error(tally_transport_t *transport)
{
    struct fi_cq_err_entry entry = {.err = 0};
    ssize_t result = fi_cq_readerr(transport->cq, &entry, 0);

    if (result == -FI_EAGAIN)
        return 0;
    if (result < 0)
        return ofi_fail(transport->host, ofi_status((int)-result),
                        "libfabric does not say which message failed: %s",
                        transport->library.strerror((int)-result));
    // Not of a message: a provider's own affair, which messages will show.
    if (entry.op_context != NULL)
        ofi_message_failed(transport, operation_of(entry.op_context),
                           entry.err);
    return 1;
}

int ofi_progress(tally_transport_t *transport)
{
    struct fi_cq_msg_entry entries[ENTRIES];
    ssize_t count = fi_cq_read(transport->cq, entries, ENTRIES);
    int events;

    if (count == -FI_EAVAIL) {
        events = read_error(transport);
    } else if (count == -FI_EAGAIN) {
        events = 0;
    } else if (count < 0) {
        return ofi_fail(transport->host, ofi_status((int)-count),
                        "libfabric's completion queue cannot be read: %s",
                        transport->library.strerror((int)-count));
    } else {
        events = (int)count;
        for (int i = 0; i < events; i++)
            if (entries[i].op_context != NULL)
                ofi_operation_end(transport,
                                  operation_of(entries[i].op_context), TALLY_OK,
                                  entries[i].len);
    }
    ofi_message_post_waiting(transport);
    return events;
}
