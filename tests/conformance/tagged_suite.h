// SPDX-License-Identifier: BSD-3-Clause
// The tests that every TALLY_TAGGED_P2P backend must pass, in each way that it
// can be set up. What is particular to a backend is tested beside it.
#ifndef CONFORMANCE_TAGGED_SUITE_H
#define CONFORMANCE_TAGGED_SUITE_H

#include <check.h>
#include <stdbool.h>

#include "harness/side.h"

// A backend, and what its libraries do not hold to in some setups: those are
// the last ones.
struct tagged_backend {
    const char *library; // the path that it is loaded from
    const struct side_setup *setups;
    int setup_count;
    // The first setups, in which a message may come before it is asked for.
    int keep_unexpected;
    // The first setups, in which more arrives after a receive that was too
    // short.
    int go_on_after_short;
    // A peer that was killed is reported; else it only must harm nobody.
    bool tells_of_a_loss;
};

// The tests; `backend` must live as long as they do. One backend a program.
TCase *tagged_suite(const struct tagged_backend *backend);

#endif
