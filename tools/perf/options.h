// SPDX-License-Identifier: BSD-3-Clause
// The command line of tally_perf.
#ifndef PERF_OPTIONS_H
#define PERF_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

struct options {
    int64_t iters;
    int64_t warmup;
    int64_t records;
    int64_t rounds;
    bool compare_mpi;
    const char *mpi_btl;     // NULL: what fits the transport
    const char *mpi_program; // NULL: look for it
    bool json;
    bool help;
};

extern const char options_usage[];

// Fills in defaults. false, with a line on stderr, if the line is wrong.
bool options_parse(int argc, char **argv, struct options *options);

#endif
