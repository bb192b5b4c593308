// SPDX-License-Identifier: BSD-3-Clause
// A test backend: its query needs a newer host.
#include <stdio.h>

#include "backend.h"

#define SENTENCE_BYTES 100

tally_status_t tallyTransport_query(uint32_t host_abi,
                                    const tally_transport_host_t *host,
                                    const tally_transport_ops_t **ops)
{
    char sentence[SENTENCE_BYTES];

    (void)ops;
    snprintf(sentence, sizeof(sentence),
             "it needs transport ABI %u, this Tally speaks %u",
             (unsigned)host_abi + 1, (unsigned)host_abi);
    return host->fail(host->context, TALLY_ERR_ABI, sentence);
}
