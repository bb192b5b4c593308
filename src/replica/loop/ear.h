// SPDX-License-Identifier: BSD-3-Clause
// What the loop's thread hears with: a descriptor to sleep on, beside which
// another thread says whether the transport's is heard, and when it rings. So
// that one goes deaf, and gets up later, without being woken.
//
// Thread contract: the caller has the loop's lock.
#ifndef REPLICA_LOOP_EAR_H
#define REPLICA_LOOP_EAR_H

#include <stdbool.h>
#include <stdint.h>

struct replica_ear {
    int fd;    // readable when what is heard is, or it rings; -1: not open
    int bell;  // -1: not open
    int heard; // -1: nothing yet
};

// Errors in errno; it is to be closed even so.
bool replica_ear_open(struct replica_ear *ear);
void replica_ear_close(struct replica_ear *ear);

// From now on; it rings no more. false: that descriptor cannot be heard.
bool replica_ear_listen(struct replica_ear *ear, int fd);

// Nothing is heard until it listens again.
void replica_ear_stop(struct replica_ear *ear);

// After so long; 0: no more.
void replica_ear_ring(struct replica_ear *ear, int64_t us);

#endif
