// SPDX-License-Identifier: BSD-3-Clause
// Tests of the rendezvous among threads: what each rank says of itself, and
// what all are to be told.
#ifndef HARNESS_SCENE_H
#define HARNESS_SCENE_H

#include "harness/ranks.h"
#include "harness/rendezvous.h"

// What the ranks of one test share.
struct scene {
    uint16_t port;
    int32_t size; // 0: as many as run
    // Changes what a rank says; NULL: nothing.
    void (*change)(struct rendezvous *rendezvous, int32_t index);
    // Of every rank alike, or NULL: it comes up.
    const char *sentence;
    tally_status_t status;
    // What it does once it is up.
    void (*body)(struct rendezvous *rendezvous, struct ranks_member *member);
};

// Runs `size` ranks as threads, on a port of their own.
void scene_run(int32_t size, struct scene scene);

// A body: all-gathers over all ranks, a few times.
void scene_gather_over_all(struct rendezvous *rendezvous,
                           struct ranks_member *member);

#endif
