// SPDX-License-Identifier: BSD-3-Clause
// What a coordinator and a witness have in common: settings, a worker of a
// transport, an incarnation, and the loop that runs on them.
#ifndef CORE_REPLICA_OPEN_H
#define CORE_REPLICA_OPEN_H

#include "core/config.h"
#include "core/transports.h"
#include "quorum/quorum.h"
#include "recorder/recorder.h"
#include "replica/loop/loop.h"

struct replica_open_params {
    const struct config *config;
    const struct core_log *log;
    struct transports *transports; // open until close
    uint16_t peer;
    uint16_t replicas;
    uint16_t witnesses;
    uint32_t minimum;
    bool witness;
    uint32_t records;
    uint64_t layout;
    const tally_membership_t *membership; // NULL: the trainer gave none
    void (*decided)(void *context, const struct replica_outcome *outcome);
    void *context;
};

struct replica_opened {
    struct transports_entry *entry;
    struct quorum *quorum;
    struct recorder *recorder; // NULL: none is kept
    struct replica_loop *loop;
    uint64_t incarnation;
};

// Errors: CONFIG (numbers that do not fit, or those of membership), TRANSPORT,
// SYSTEM, MEMORY.
tally_status_t replica_open_all(const struct replica_open_params *params,
                                struct replica_opened *out);
// False: the process exits, and what is opened is left to its end.
bool replica_close_all(struct replica_opened *opened);

#endif
