// SPDX-License-Identifier: BSD-3-Clause
// A /dev/shm of one's own, so that a test can fill it, count what is left
// there, or be a node whose memory nobody else sees.
#ifndef HARNESS_PRIVATE_SHM_H
#define HARNESS_PRIVATE_SHM_H

#include <stdbool.h>
#include <stddef.h>

// For the calling thread and those it starts from now on. bytes: its size; 0:
// any. false, with a line on stderr: not permitted here, the test skips.
bool private_shm_enter(size_t bytes);

// Files in /dev/shm.
int private_shm_count(void);

// Takes all the room that is left.
void private_shm_fill(void);

#endif
