// SPDX-License-Identifier: BSD-3-Clause
// One side of a test of tagged transports: a backend loaded and opened in this
// process, joined to the other ranks.
#ifndef HARNESS_SIDE_H
#define HARNESS_SIDE_H

#include <tally/transport.h>

#include "harness/processes.h"
#include "transport/load.h"

#define SIDE_LOG_BYTES 4096

// What the backend is given: the argument of a run.
struct side_setup {
    const char *backend; // name or path
    const char *plugin_path;
    const char *const *settings; // "TALLY_NAME", "value", ..., NULL
};

struct side {
    struct processes_member *member; // NULL: alone
    const struct side_setup *setup;
    tally_transport_host_t host;
    struct transport_backend *backend;
    const tally_transport_ops_t *ops;
    tally_transport_t *transport;
    tally_endpoint_t *peers[PROCESSES_MAX]; // NULL for the own rank
    int losses[PROCESSES_MAX];              // calls of peer_lost
    char log[SIDE_LOG_BYTES];
};

// The host's operations only: for tests of loading.
void side_prepare(struct side *side, const struct side_setup *setup);

// Loads and opens; ends the process if it cannot.
void side_open(struct side *side, const struct side_setup *setup);

// Opens, then exchanges addresses and connects to all others.
void side_join(struct side *side, struct processes_member *member);

// Closes and unloads. Not collective.
void side_close(struct side *side);

// Makes progress until the request is complete; returns its status.
tally_status_t side_wait(struct side *side, const tally_request_t *request);

// Posts and waits.
void side_send(struct side *side, int32_t peer, uint64_t tag,
               const void *buffer, size_t bytes);
uint32_t side_receive(struct side *side, uint64_t tag, void *buffer,
                      size_t bytes);

#endif
