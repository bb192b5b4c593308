// SPDX-License-Identifier: BSD-3-Clause
// The members of a rendezvous in one process and virtual time: the tree's code
// as it ships (bootstrap/tree), over simulated TCP (plain.h), until all ranks
// have come. For what a hundred thousand of them cost the root.
#ifndef BOOTSTRAP_SIM_CROWD_H
#define BOOTSTRAP_SIM_CROWD_H

#include <stdbool.h>
#include <stdint.h>
#include <tally/tally.h>

struct crowd_params {
    int32_t size;
    int32_t radix; // of the tree; 0: the preset one
    uint64_t seed;
    int64_t one_way_ns; // from host to host
    int64_t jitter_ns;  // up to so much more
    int64_t call_ns;    // what a call on a socket costs its member
    int32_t backlog;    // connections that the kernel queues at a listener
    int64_t spread_ns;  // members begin within this, in any order
    int64_t timeout_us;
};

struct crowd_result {
    int32_t up;      // members that came up: all, or something is wrong
    int64_t time_ns; // until the last one was
    int32_t depth;   // of the tree, below the root
    // Of the root:
    int64_t received; // messages, without what TCP adds
    int64_t sent;
    int64_t accepted;    // connections in all
    int64_t connections; // at once, at most
    int64_t busy_ns;     // its processor
    int64_t turned_back; // connections for which its kernel had no place
};

// Errors: MEMORY; or why the root failed.
tally_status_t crowd_run(const struct crowd_params *params,
                         struct crowd_result *out);

#endif
