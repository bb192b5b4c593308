// SPDX-License-Identifier: BSD-3-Clause
// What the messages of replica groups name: processes, decisions, ballots;
// their order, and the digest that chains decisions. Pure values.
#ifndef REPLICA_NAMES_H
#define REPLICA_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Replicas and witnesses share one numbering, so that a set is 64 bits.
#define REPLICA_PEERS_MAX 64
#define REPLICA_ACCEPTORS_MAX 9 // f <= 4
#define REPLICA_RECORDS_MAX 64  // TALLY_CHANNELS_MAX

// Rank 0 of a peer is its coordinator, or the witness. An incarnation is given
// by the quorum provider; a later one is greater.
struct replica_name {
    uint16_t peer;
    uint16_t rank;
    uint64_t incarnation;
};

// Attempt 0 decides who is counted in `index`; attempt a >= 1 is the a-th try
// to decide whose gradients are applied.
struct replica_instance {
    uint64_t index;
    uint32_t attempt;
};

// Round 0 is the ballot that belongs to nobody: the fast path.
struct replica_ballot {
    uint32_t round;
    struct replica_name leader;
};

static inline uint64_t replica_bit(uint16_t peer)
{
    return (uint64_t)1 << peer;
}

static inline int replica_set_size(uint64_t set)
{
    return __builtin_popcountll(set);
}

static inline uint64_t replica_name_place(struct replica_name name)
{
    return (uint64_t)name.peer << 16 | name.rank;
}

static inline bool replica_name_equal(struct replica_name a,
                                      struct replica_name b)
{
    return replica_name_place(a) == replica_name_place(b) &&
           a.incarnation == b.incarnation;
}

// These give < 0, 0 or > 0.
static inline int replica_compare(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static inline int replica_instance_compare(struct replica_instance a,
                                           struct replica_instance b)
{
    int by = replica_compare(a.index, b.index);

    return by != 0 ? by : replica_compare(a.attempt, b.attempt);
}

static inline int replica_ballot_compare(struct replica_ballot a,
                                         struct replica_ballot b)
{
    int by = replica_compare(a.round, b.round);

    if (by == 0)
        by = replica_compare(replica_name_place(a.leader),
                             replica_name_place(b.leader));
    if (by == 0)
        by = replica_compare(a.leader.incarnation, b.leader.incarnation);
    return by;
}

// One word into a digest. It keeps accidents apart, not attackers.
static inline uint64_t replica_digest(uint64_t digest, uint64_t word)
{
    digest = (digest ^ word) * 0x9e3779b97f4a7c15u;
    digest = (digest ^ digest >> 32) * 0xd6e8feb86659fd93u;
    return digest ^ digest >> 29;
}

#endif
