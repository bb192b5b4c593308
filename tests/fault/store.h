// SPDX-License-Identifier: BSD-3-Clause
// A trainer's own store, for TALLY_QUORUM=callback: a file of a folder for each
// peer, as torchft's manager has a key in a TCPStore. It counts the starts of a
// peer, and knows of no clock.
#ifndef FAULT_STORE_H
#define FAULT_STORE_H

#include <stdbool.h>
#include <tally/tally.h>

#define STORE_PEERS 8

struct store {
    const char *folder; // borrowed
    int peer;
};

// Fills a membership that lives in the store, for a start of the store's peer.
// The store must live until the group is freed. False: the folder fails.
bool store_join(struct store *store, tally_membership_t *out);

#endif
