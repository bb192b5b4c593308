// SPDX-License-Identifier: BSD-3-Clause
// A process as others of its host can tell it: so that its end is seen at once,
// by a pidfd, and another that was given its number is not taken for it.
#ifndef REPLICA_LOOP_IDENTITY_H
#define REPLICA_LOOP_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

struct process_identity {
    uint64_t boot;      // digest of the kernel's boot id; 0: not known
    uint64_t namespace; // inode of the PID namespace
    uint64_t started;   // ticks since boot
    int64_t pid;
};

// All 0 where the kernel does not say.
void process_identity_read(struct process_identity *out);

// A pidfd of that process; -1: it is of another host or namespace, or the
// kernel has none. *gone: it is of this one, and has ended.
int process_identity_watch(const struct process_identity *identity, bool *gone);

// Whether the process of a pidfd has ended. One system call.
bool process_has_ended(int pidfd);

#endif
