// SPDX-License-Identifier: BSD-3-Clause
// See status.h.
#include "transport/ofi/status.h"

#include <rdma/fi_errno.h>
#include <stdarg.h>
#include <stdio.h>

#define SENTENCE_BYTES 1024

static const struct {
    int error;
    tally_status_t tally;
} statuses[] = {
    {FI_SUCCESS, TALLY_OK},
    {FI_ENOMEM, TALLY_ERR_MEMORY},
    {FI_ETRUNC, TALLY_ERR_MISMATCH},
    {FI_ETOOSMALL, TALLY_ERR_MISMATCH},
    {FI_ECONNABORTED, TALLY_ERR_PEER},
    {FI_ECONNREFUSED, TALLY_ERR_PEER},
    {FI_ECONNRESET, TALLY_ERR_PEER},
    {FI_EHOSTDOWN, TALLY_ERR_PEER},
    {FI_EHOSTUNREACH, TALLY_ERR_PEER},
    {FI_ENETUNREACH, TALLY_ERR_PEER},
    {FI_ENOTCONN, TALLY_ERR_PEER},
    {FI_EREMOTEIO, TALLY_ERR_PEER},
    {FI_ESHUTDOWN, TALLY_ERR_PEER},
    {FI_ETIMEDOUT, TALLY_ERR_PEER},
};

tally_status_t ofi_status(int error)
{
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
        if (statuses[i].error == error)
            return statuses[i].tally;
    return TALLY_ERR_TRANSPORT;
}

tally_status_t ofi_fail(const tally_transport_host_t *host,
                        tally_status_t status, const char *format, ...)
{
    char sentence[SENTENCE_BYTES];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(sentence, sizeof(sentence), format, arguments);
    va_end(arguments);
    return host->fail(host->context, status, sentence);
}
