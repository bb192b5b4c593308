// SPDX-License-Identifier: BSD-3-Clause
// The peer that Tally is compared with: finds the program of a peer (mpi.c,
// under mpirun, or those of tools/pingpong), runs it and reads what it
// measured.
#ifndef PERF_PEER_H
#define PERF_PEER_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "perf/samples.h"

enum peer_kind {
    PEER_NONE,
    PEER_MPI,      // MPI_Allreduce
    PEER_PINGPONG, // the library below the transport by itself, one way
    PEER_EXCHANGE, // the same, both send at once
    PEER_KINDS
};

extern const char *const peer_kind_names[PEER_KINDS];
// NONE: there is no such peer.
enum peer_kind peer_kind_named(const char *name);

struct peer {
    enum peer_kind kind;
    char mpirun[PATH_MAX];
    char program[PATH_MAX];
    char btl[128]; // Open MPI's byte transfer layers: "self,vader"
    char library[128];
    struct samples samples; // of all rounds
    int64_t wrong;
};

struct peer_wish {
    enum peer_kind kind;
    const char *transport;   // Tally's: "shm", "ucx"
    const char *mpi_program; // NULL: look for it
    const char *mpi_btl;     // NULL: what fits the transport
};

// Finds the program beside this one or where `make install` puts it, and mpirun
// in PATH. false, and a sentence in `why`, if one is missing or the transport
// has no such peer.
bool peer_find(struct peer *peer, const struct peer_wish *wish, char *why,
               size_t why_bytes);

struct peer_round {
    int32_t ranks; // of MPI; the others are two processes
    uint32_t records;
    int64_t warmup;
    int64_t iterations;
};

// Runs one round on this host and adds its samples. false, and a sentence in
// `why`, if it does not end well.
bool peer_run(struct peer *peer, const struct peer_round *round, char *why,
              size_t why_bytes);

// Reads the program's output of one round into the peer; false if it is not
// what it should be. For peer_run and its test.
bool peer_parse(struct peer *peer, const char *output, int64_t iterations);

#endif
