// SPDX-License-Identifier: BSD-3-Clause
// See status.h.
#include "transport/nccl/status.h"

#include <stdarg.h>
#include <stdio.h>

#define SENTENCE_BYTES 1024

tally_status_t nccl_status(ncclResult_t result)
{
    switch (result) {
    case ncclSuccess:
        return TALLY_OK;
    case ncclInProgress:
        return TALLY_NOT_YET;
    case ncclRemoteError:
        return TALLY_ERR_PEER;
    default:
        return TALLY_ERR_TRANSPORT;
    }
}

tally_status_t nccl_fail(const tally_transport_host_t *host,
                         tally_status_t status, const char *format, ...)
{
    char sentence[SENTENCE_BYTES];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(sentence, sizeof(sentence), format, arguments);
    va_end(arguments);
    return host->fail(host->context, status, sentence);
}
