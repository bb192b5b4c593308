// SPDX-License-Identifier: BSD-3-Clause
// The two compressed notations of Slurm's environment: lists of hosts, and
// numbers of tasks of each node.
#ifndef BOOTSTRAP_SLURM_H
#define BOOTSTRAP_SLURM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The first host of "gpu[007-012,100],login": "gpu007". False: no list.
bool slurm_first_host(const char *list, char *host, size_t room);

// Tasks of node `node` in "4(x2),3": 4, 4, 3. 0: it does not say.
int32_t slurm_tasks_of_node(const char *text, long node);

#endif
