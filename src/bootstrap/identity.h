// SPDX-License-Identifier: BSD-3-Clause
// Who am I, of how many, and where is the root: read from the variables of
// Tally, torchrun, Slurm, Open MPI or PMIx, in this order. It opens no socket.
#ifndef BOOTSTRAP_IDENTITY_H
#define BOOTSTRAP_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tally/tally.h>

#define IDENTITY_PORTS_MAX 16

struct identity_env {
    const char *(*get)(void *context, const char *name); // NULL: not set
    void *context;
};

struct identity {
    int32_t rank;
    int32_t world_size;
    int32_t local_size; // ranks on this host, as the launcher says; 0: unknown
    char source[24];    // "TALLY_RANK", "torchrun", "Slurm", "Open MPI",
                        // "PMIx", "single process"
    char job[128];      // what the launcher calls the job; may be guessable
    char host[256];     // of the root: name, IPv4 or IPv6 address
    uint16_t ports[IDENTITY_PORTS_MAX]; // candidates, tried in order
    int32_t port_count;
};

// What one launcher says, by variables that may be left over from another.
struct identity_claim {
    const char *source;    // as in struct identity
    const char *rank_name; // of the variables that say it
    const char *size_name;
    int32_t rank, world_size;
};

// Claim `index` of those that are there; the first is the one that counts.
// False past the last.
bool identity_claim(const struct identity_env *env, size_t index,
                    struct identity_claim *out);

// Errors: CONFIG with the names and values at fault.
tally_status_t identity_find(const struct identity_env *env,
                             struct identity *out);

#endif
