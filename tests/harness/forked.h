// SPDX-License-Identifier: BSD-3-Clause
// Ranks as forked processes of the test, with an all-gather among them. For
// what threads cannot show: real sharing of memory, and death.
#ifndef HARNESS_FORKED_H
#define HARNESS_FORKED_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct forked; // shared by the processes of one run

struct forked_member {
    struct forked *forked;
    int32_t rank;
    int32_t size;
    void *argument; // the run's; the child's copy
    pid_t *pids;    // [size]: of all, known once the first all-gather is over
};

// What all ranks may gather at once.
#define FORKED_BYTES_MAX ((size_t)1 << 16)

// Runs `body` in `size` children; its return value is the exit status. Returns
// how many did not exit with 0; a rank in `expendable` (bit i: rank i) may be
// killed without being counted.
int32_t forked_run(int32_t size, int (*body)(struct forked_member *member),
                   void *argument, uint64_t expendable);

// All-gather among the processes, with the member as context. Returns 0. A rank
// that died makes the others wait for ever: tests have a deadline.
int forked_allgather(void *member, const void *send, void *recv, size_t bytes);

#endif
