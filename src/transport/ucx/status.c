// SPDX-License-Identifier: BSD-3-Clause
// See status.h.
#include "transport/ucx/status.h"

#include <stdarg.h>
#include <stdio.h>

#define SENTENCE_BYTES 1024

static const struct {
    ucs_status_t ucx;
    tally_status_t tally;
} statuses[] = {
    {UCS_OK, TALLY_OK},
    {UCS_INPROGRESS, TALLY_NOT_YET},
    {UCS_ERR_NO_MEMORY, TALLY_ERR_MEMORY},
    {UCS_ERR_MESSAGE_TRUNCATED, TALLY_ERR_MISMATCH},
    {UCS_ERR_UNREACHABLE, TALLY_ERR_PEER},
    {UCS_ERR_TIMED_OUT, TALLY_ERR_PEER},
    {UCS_ERR_NOT_CONNECTED, TALLY_ERR_PEER},
    {UCS_ERR_CONNECTION_RESET, TALLY_ERR_PEER},
    {UCS_ERR_REJECTED, TALLY_ERR_PEER},
};

tally_status_t ucx_status(ucs_status_t status)
{
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
        if (statuses[i].ucx == status)
            return statuses[i].tally;
    if (UCS_IS_LINK_ERROR(status) || UCS_IS_ENDPOINT_ERROR(status))
        return TALLY_ERR_PEER;
    return TALLY_ERR_TRANSPORT;
}

tally_status_t ucx_fail(const tally_transport_host_t *host,
                        tally_status_t status, const char *format, ...)
{
    char sentence[SENTENCE_BYTES];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(sentence, sizeof(sentence), format, arguments);
    va_end(arguments);
    return host->fail(host->context, status, sentence);
}
