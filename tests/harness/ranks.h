// SPDX-License-Identifier: BSD-3-Clause
// Ranks as threads of the test process, with an all-gather among them. For what
// needs no real processes.
#ifndef HARNESS_RANKS_H
#define HARNESS_RANKS_H

#include <stddef.h>
#include <stdint.h>

struct ranks; // shared by the threads of one run

struct ranks_member {
    struct ranks *ranks;
    int32_t rank;
    int32_t size;
    void *argument; // the run's
};

// Runs `body` in `size` threads and joins them.
void ranks_run(int32_t size, void (*body)(struct ranks_member *member),
               void *argument);

// All-gather among the threads; fits tally_host.allgather with the member as
// context. Returns 0; -1 after ranks_break.
int ranks_allgather(void *member, const void *send, void *recv, size_t bytes);

// Waits for all.
void ranks_barrier(struct ranks_member *member);

// Makes every all-gather under way or to come fail.
void ranks_break(struct ranks_member *member);

#endif
