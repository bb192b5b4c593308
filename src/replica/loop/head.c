// SPDX-License-Identifier: BSD-3-Clause
// See head.h.
#include "replica/loop/head.h"

#include <string.h>

#define HEAD_MAGIC 0x3276737265657054u // a version of it, and of packets

void peer_head_write(struct peer_head *head,
                     const struct replica_peers_params *params)
{
    *head = (struct peer_head){.magic = HEAD_MAGIC,
                               .layout = params->layout,
                               .records = params->records};
    process_identity_read(&head->process);
    strncpy(head->transport, params->ops->name, sizeof(head->transport) - 1);
}

const char *peer_head_refusal(const struct peer_head *head, size_t bytes,
                              const struct replica_peers_params *params)
{
    if (bytes < sizeof(*head) || bytes > REPLICA_ADDRESS_BYTES_MAX ||
        head->magic != HEAD_MAGIC)
        return "its address is of another version of Tally";
    if (strncmp(head->transport, params->ops->name,
                sizeof(head->transport) - 1) != 0)
        return "it has chosen another transport (TALLY_REPLICA_TRANSPORT)";
    if (head->layout != 0 && params->layout != 0 &&
        (head->layout != params->layout || head->records != params->records))
        return "its step has other channels, or another order";
    if (head->layout != 0 &&
        (head->records < 1 || head->records > REPLICA_RECORDS_MAX))
        return "its step has no number of channels";
    return NULL;
}
