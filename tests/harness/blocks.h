// SPDX-License-Identifier: BSD-3-Clause
// The blocks of memory that the code of a test, and all that is linked into it
// from archives, has allocated and not freed. The test is linked with
// BLOCKS_LDFLAGS: the linker gives those calls to blocks.c.
#ifndef HARNESS_BLOCKS_H
#define HARNESS_BLOCKS_H

// Those that are allocated from now on. What went before is forgotten.
void blocks_watch(void);
// How many of them are left.
int blocks_left(void);

#endif
