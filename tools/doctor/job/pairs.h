// SPDX-License-Identifier: BSD-3-Clause
// Who can reach whom, by messages to and fro. Every rank answers all others
// while it asks them itself: first all at once, then one by one for the time it
// takes. How messages go is the business of ways (shared.c, tagged.c).
#ifndef JOB_PAIRS_H
#define JOB_PAIRS_H

#include <stdbool.h>
#include <stdint.h>

// Up to so many, each asks all others; above, each asks those whose number
// differs in one bit, as an all-reduce of radix 2 would.
#define PAIRS_SLOTS 64

// In place of microseconds.
#define PAIRS_UNTRIED (-1.0f)
#define PAIRS_UNREACHED (-2.0f)

#define PAIRS_REASON_BYTES 192

enum pairs_kind {
    PAIRS_PING,
    PAIRS_PONG,
    PAIRS_OVER, // asks no more
    PAIRS_KINDS
};

struct pairs;
struct pairs_way;

struct pairs_way_ops {
    // False, with a sentence in core_error_text: it cannot be sent.
    bool (*send)(struct pairs_way *way, int32_t peer, enum pairs_kind kind,
                 uint32_t number);
    // Calls pairs_take for what has come.
    void (*poll)(struct pairs_way *way, struct pairs *pairs);
};

struct pairs_way {
    const struct pairs_way_ops *ops;
};

struct pairs_peer {
    struct pairs_way *way; // NULL: it is not asked
    bool reached;
    bool failed;       // nothing can be sent
    bool over;         // it said so
    uint32_t asked;    // number of the last ping
    uint32_t answered; // and of the last pong
    int64_t asked_ns;
    int64_t best_ns; // to and fro
};

struct pairs {
    int32_t count, own;
    struct pairs_peer *peers; // [count]
    struct pairs_way *ways[2];
    int32_t current;                 // who is asked one by one
    char reason[PAIRS_REASON_BYTES]; // the first failure's
};

// The place of a peer in a row of PAIRS_SLOTS; -1: it is not asked.
int32_t pairs_slot(int32_t own, int32_t peer, int32_t count);

// Asks and answers until all is over; at most three times patience_us.
void pairs_run(struct pairs *pairs, int64_t patience_us);

// One way's microseconds, by slot.
void pairs_row(const struct pairs *pairs, float row[PAIRS_SLOTS]);

// For ways: what came from a peer.
void pairs_take(struct pairs *pairs, int32_t peer, enum pairs_kind kind,
                uint32_t number);

#endif
