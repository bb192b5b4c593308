// SPDX-License-Identifier: BSD-3-Clause
// Ranks of a test that meet by the real rendezvous over the loopback, each a
// thread or a process of its own.
#ifndef HARNESS_RENDEZVOUS_H
#define HARNESS_RENDEZVOUS_H

#include "bootstrap/bootstrap.h"

struct rendezvous {
    struct identity identity;
    struct bootstrap_params params;
    struct health *health;
    struct exchange *exchange; // NULL: it did not come up
    tally_status_t status;
    char sentence[512];
};

// A port of 127.0.0.1 that is free, and kept for a listener until close(*fd).
uint16_t rendezvous_port(int *fd);

// What rank `rank` of `size` says of itself. All else may be changed before
// rendezvous_open.
void rendezvous_prepare(struct rendezvous *rendezvous, int32_t rank,
                        int32_t size, uint16_t port);

// Opens; status and sentence say how it went.
void rendezvous_open(struct rendezvous *rendezvous);
void rendezvous_close(struct rendezvous *rendezvous);

// All-gathers rank * 1000 + salt over the ranks, and checks what comes.
tally_status_t rendezvous_gather(struct rendezvous *rendezvous,
                                 struct exchange_group *group, int32_t salt);

#endif
