// SPDX-License-Identifier: BSD-3-Clause
// The transports of a tally_t: which may be used, which could be loaded, which
// are open. How a file is found and checked is transport/load.h; which one the
// ranks of a group agree on, core/join.h.
#ifndef CORE_TRANSPORTS_H
#define CORE_TRANSPORTS_H

#include <stdbool.h>
#include <tally/transport.h>

#include "bootstrap/interface.h"
#include "collective/links.h"
#include "core/config.h"
#include "core/health.h"
#include "core/log.h"
#include "transport/load.h"

// Entries of TALLY_TRANSPORT, and the known ones that "auto" adds.
#define TRANSPORTS_NAMED_MAX 8
#define TRANSPORTS_KNOWN_MAX 4
#define TRANSPORTS_MAX (TRANSPORTS_NAMED_MAX + TRANSPORTS_KNOWN_MAX)
#define TRANSPORTS_REASON_BYTES 240

// What a backend is opened on: the devices that it finds by itself, or the
// interface by which this rank is in the rendezvous, which leads to others.
enum transports_way {
    TRANSPORTS_BY_ITSELF,
    TRANSPORTS_BY_INTERFACE,
    TRANSPORTS_WAYS,
    // A worker of its own, by itself, for the messages of replica groups.
    TRANSPORTS_FOR_REPLICAS = TRANSPORTS_WAYS,
    TRANSPORTS_WORKERS
};

struct transports_opened {
    struct transports *transports;
    tally_transport_host_t host;  // what the backend is lent
    tally_transport_t *transport; // NULL: not opened
    tally_endpoint_t **endpoints; // [world_size], for the links of groups
    bool used;                    // a group is, or was, joined by it
    // While it is not: who was lost, as no sign of a rank's health; -1.
    int32_t lost;
    // Who is told of a peer that was lost instead; NULL: nobody.
    void (*peer_lost)(void *context, int32_t peer);
    void *peer_lost_context;
};

struct transports_entry {
    char name[256]; // "ucx", or a path
    bool tried;
    struct transport_backend *backend; // NULL: not loaded
    struct transports_opened opened[TRANSPORTS_WORKERS];
    char reason[TRANSPORTS_REASON_BYTES];
};

struct transports {
    bool automatic;    // "auto" is in the list
    bool shm_only;     // only "shm" is in the list
    bool stream_only;  // nothing in the list joins nodes for steps on the host
    bool stream_first; // the first in the list is of streams alone
    int count;
    int group_count; // the first of them: those that may join groups
    struct transports_entry entries[TRANSPORTS_MAX];
    const struct config *config;
    const struct core_log *log;
    struct health *health;
    int32_t rank, world_size;
    struct interface interface; // of the rendezvous
    struct links **kept;        // freed after the transports are closed
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

// Whether a loaded backend goes another way by the rendezvous' interface: it is
// known, and the operator has not said which device it is to be.
bool transports_has_interface(const struct transports *transports,
                              const struct transports_entry *entry);

// Whether it may be of the kind, as far as its name tells: all ranks think the
// same.
bool transports_may_be(const struct transports_entry *entry,
                       tally_transport_kind_t kind);

// Loads it, unless that is done. An error says why it does not serve as one of
// the kind.
tally_status_t transports_need(struct transports *transports,
                               struct transports_entry *entry,
                               tally_transport_kind_t kind);

// Loads it and opens it, unless that is done. An error says why it cannot.
tally_status_t transports_open(struct transports *transports,
                               struct transports_entry *entry,
                               enum transports_way way);

// Closes it, whether a group is joined by it or not.
void transports_close(struct transports_entry *entry, enum transports_way way);

// Closes what no group is joined by.
void transports_close_unused(struct transports_entry *entry,
                             enum transports_way way);

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
