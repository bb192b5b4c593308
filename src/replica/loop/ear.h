// SPDX-License-Identifier: BSD-3-Clause
// What the loop's thread hears with: a descriptor to sleep on, beside which
// another thread says whether the transport's is heard. So that one goes deaf,
// and hears again, without being woken.
//
// Thread contract: the caller has the loop's lock.
#ifndef REPLICA_LOOP_EAR_H
#define REPLICA_LOOP_EAR_H

#include <stdbool.h>

struct replica_ear {
    int fd;    // readable when what is heard is; -1: it is not open
    int heard; // -1: nothing yet
};

// Errors in errno.
bool replica_ear_open(struct replica_ear *ear);
void replica_ear_close(struct replica_ear *ear);

// From now on. false: that descriptor cannot be heard.
bool replica_ear_listen(struct replica_ear *ear, int fd);

// Nothing is heard, until it listens again: false: it cannot.
void replica_ear_stop(struct replica_ear *ear);
bool replica_ear_resume(struct replica_ear *ear);

#endif
