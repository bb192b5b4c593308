// SPDX-License-Identifier: BSD-3-Clause
// The command line of tally_perf.
#ifndef PERF_OPTIONS_H
#define PERF_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "perf/peer.h"

#define OPTIONS_LIST_MAX 64

struct options_list {
    int count;
    int64_t values[OPTIONS_LIST_MAX];
};

struct options {
    int64_t iters;
    int64_t warmup;
    int64_t rounds;
    struct options_list records;
    struct options_list ranks; // empty: all
    char *transports;          // a comma list; NULL: as the environment says
    enum peer_kind compare;
    const char *mpi_btl;     // NULL: what fits the transport
    const char *mpi_program; // NULL: look for it
    bool cpu;
    bool json;
    bool help;
};

extern const char options_usage[];

// Fills in defaults. false, with a line on stderr, if the line is wrong.
bool options_parse(int argc, char **argv, struct options *options);

#endif
