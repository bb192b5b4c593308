// SPDX-License-Identifier: BSD-3-Clause
// Local ranks of a command: started, watched and ended together. It reads no
// command line (main.c does).
#ifndef RUN_RANKS_H
#define RUN_RANKS_H

#include <stdbool.h>
#include <stdint.h>

enum {
    RUN_EXIT_TIMEOUT = 124,
    RUN_EXIT_OURS = 125, // tally_run itself failed, as env(1) and timeout(1) do
    RUN_EXIT_CANNOT_RUN = 126,
    RUN_EXIT_NOT_FOUND = 127,
    RUN_EXIT_SIGNAL = 128 // plus its number
};

struct run_options {
    int32_t ranks;
    int32_t nodes;      // 0: TALLY_NODE is left as it is
    int64_t timeout_us; // 0: none
    int64_t grace_us;   // from a failure or a signal to SIGTERM
    bool prefix;        // begin lines of output with "[rank] "
    bool keep_going;    // do not end the others when a rank fails
    char **command;
};

// Returns when all ranks have ended: the status to exit with. Ends the process
// where they cannot be started. For one thread, once a process.
int run_ranks(const struct run_options *options);

#endif
