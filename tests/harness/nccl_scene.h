// SPDX-License-Identifier: BSD-3-Clause
// Ranks as threads that reduce on streams over libtally-nccl.so, with the
// tests' own NCCL and CUDA driver (harness/nccl/made_up.h).
#ifndef HARNESS_NCCL_SCENE_H
#define HARNESS_NCCL_SCENE_H

#include <stdbool.h>

#include "harness/job.h"
#include "harness/nccl/made_up.h"

#define NCCL_SCENE_RANKS 3
#define NCCL_SCENE_LANES 9

// Of this process, once loaded.
extern struct nccl_scene {
    struct made_up_cuda *cuda;
    struct made_up_nccl *nccl;
} nccl_scene;

// Before libtally-nccl.so looks for them.
void nccl_scene_load(void);

// How a rank comes to its communicator.
struct nccl_setup {
    const char *transport;
    const char *timeout; // of bootstrap; NULL: preset
    bool adopts[NCCL_SCENE_RANKS];
    bool turned; // the trainer's communicator has another order
};

extern const struct nccl_setup nccl_own;
extern const struct nccl_setup nccl_adopting;

// Opens Tally and a group that was given what the setup says. A reduction has
// 2 s.
void nccl_scene_open(struct job *job, struct ranks_member *member,
                     const struct nccl_setup *setup);

// The body of a run whose argument is a setup: joins, and reduces right.
void nccl_scene_reduce(struct ranks_member *member);

// Asserts that nobody broke a rule, and that all is given back but `open`
// communicators.
void nccl_scene_check(int open);

#endif
