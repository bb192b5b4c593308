// SPDX-License-Identifier: BSD-3-Clause
// Loads the tests' own NCCL and CUDA driver (harness/nccl/made_up.h) into the
// process of a test, before libtally-nccl.so looks for them.
#ifndef HARNESS_NCCL_SCENE_H
#define HARNESS_NCCL_SCENE_H

#include <tally/tally.h>

#include "harness/nccl/made_up.h"

struct nccl_scene {
    struct made_up_cuda *cuda;
    struct made_up_nccl *nccl;
};

// build: the top folder of the build.
struct nccl_scene nccl_scene_load(const char *build);

// A communicator as a trainer makes one, of one of `ranks` ranks that share the
// number. It is not counted as Tally's.
void *nccl_scene_communicator(const struct nccl_scene *scene, int number,
                              int rank, int ranks);

// Asserts that nobody broke a rule, and that all is given back but `open`
// communicators.
void nccl_scene_check(const struct nccl_scene *scene, int open);

#endif
