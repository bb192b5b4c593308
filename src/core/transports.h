// SPDX-License-Identifier: BSD-3-Clause
// The transports of a tally_t: which may be used, which could be loaded, which
// one all ranks of a group agree on. How a file is found and checked is
// transport/load.h.
#ifndef CORE_TRANSPORTS_H
#define CORE_TRANSPORTS_H

#include <stdbool.h>
#include <tally/transport.h>

#include "bootstrap/exchange.h"
#include "collective/links.h"
#include "core/config.h"
#include "core/health.h"
#include "core/log.h"
#include "transport/load.h"

// Entries of TALLY_TRANSPORT.
#define TRANSPORTS_MAX 8
#define TRANSPORTS_REASON_BYTES 240

struct transports_entry {
    char name[256]; // "ucx", or a path
    bool tried;
    struct transport_backend *backend; // NULL: not loaded
    tally_transport_t *opened;         // NULL: not opened
    tally_endpoint_t **endpoints;      // [world_size], for the links of groups
    char reason[TRANSPORTS_REASON_BYTES];
};

struct transports {
    bool automatic; // "auto" is in the list
    bool shm_only;  // only "shm" is in the list
    int count;
    struct transports_entry entries[TRANSPORTS_MAX];
    tally_transport_host_t host;
    const struct config *config;
    const struct core_log *log;
    struct health *health;
    int32_t rank, world_size;
    struct links **kept; // freed after the transports are closed
    size_t kept_count;
};

// Parses TALLY_TRANSPORT; loads nothing. Borrows all.
tally_status_t transports_create(const struct config *config,
                                 const struct core_log *log,
                                 struct health *health, int32_t rank,
                                 int32_t world_size, struct transports **out);

// Loads what was named by the operator; at least one must load, if "shm" and
// "auto" are not in the list.
tally_status_t transports_load_named(struct transports *transports);

// Loads (and opens) all candidates, and chooses the first that all ranks of the
// group have. Collective over the group.
tally_status_t transports_agree(struct transports *transports,
                                struct exchange *exchange,
                                struct exchange_group *group,
                                struct transports_entry **out);

// Takes the links of a group that is gone: a transport may hold buffers of
// theirs until it is closed.
void transports_keep_links(struct transports *transports, struct links *links);

// Closes and unloads.
void transports_free(struct transports *transports);

// Adds the known ones that the operator did not name, for a look at all.
void transports_add_known(struct transports *transports);

// Loads an entry, or says why not in its reason.
void transports_try(struct transports *transports,
                    struct transports_entry *entry);

// The backends that Tally knows, terminated by NULL, in the order of "auto".
extern const char *const transports_known[];

#endif
