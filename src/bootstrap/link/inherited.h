// SPDX-License-Identifier: BSD-3-Clause
// Sockets that a forked child must not hold: a data loader's worker that
// outlives its rank would keep the rank's connections open, and nobody would
// see that it died.
#ifndef BOOTSTRAP_LINK_INHERITED_H
#define BOOTSTRAP_LINK_INHERITED_H

// From now on a child of fork() closes the descriptor. Any thread.
void inherited_watch(int fd);

// Closes the descriptor here. Any thread.
void inherited_close(int fd);

#endif
