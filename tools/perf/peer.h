// SPDX-License-Identifier: BSD-3-Clause
// The peer that Tally is compared with: finds mpirun and the MPI program
// (mpi.c), runs them and reads what they measured.
#ifndef PERF_PEER_H
#define PERF_PEER_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "perf/samples.h"

struct peer {
    char mpirun[PATH_MAX];
    char program[PATH_MAX];
    char btl[128]; // Open MPI's byte transfer layers: "self,vader"
    char library[128];
    struct samples samples; // of all rounds
    int64_t wrong;
};

// Finds mpirun in PATH and the program: `program` if it is not NULL, else
// beside this one or where `make install` puts it. false, and a sentence in
// `why`, if one is missing.
bool peer_find(struct peer *peer, const char *program, char *why,
               size_t why_bytes);

struct peer_round {
    int32_t ranks;
    uint32_t records;
    int64_t warmup;
    int64_t iterations;
};

// Runs one round and adds its samples. false, and a sentence in `why`, if it
// does not end well.
bool peer_run(struct peer *peer, const struct peer_round *round, char *why,
              size_t why_bytes);

// Reads the program's output of one round into the peer; false if it is not
// what it should be. For peer_run and its test.
bool peer_parse(struct peer *peer, const char *output, int64_t iterations);

#endif
