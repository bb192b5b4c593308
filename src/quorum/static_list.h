// SPDX-License-Identifier: BSD-3-Clause
// The list of TALLY_QUORUM_LIST: where each replica group and witness listens.
#ifndef QUORUM_STATIC_LIST_H
#define QUORUM_STATIC_LIST_H

#include <tally/tally.h>

#include "replica/names.h"

#define STATIC_HOST_BYTES 256

struct static_entry {
    char host[STATIC_HOST_BYTES]; // name or address, without brackets
    uint16_t port;
};

// `peers` entries, host:port, separated by commas. Errors: CONFIG, with the
// entry at fault.
tally_status_t
static_list_parse(const char *text, uint16_t peers,
                  struct static_entry entries[REPLICA_PEERS_MAX]);

#endif
