// SPDX-License-Identifier: BSD-3-Clause
// What the ranks of a job know of each other: everybody's facts, nodes, clocks,
// and who reaches whom. Ranks that stop answering on the way are left behind.
#ifndef JOB_JOB_H
#define JOB_JOB_H

#include "bootstrap/exchange.h"
#include "bootstrap/interface.h"
#include "doctor/facts/facts.h"
#include "doctor/job/clocks.h"
#include "doctor/job/pairs.h"

// Above so many ranks, pairs are of nodes.
#define JOB_RANKS_IN_PAIRS 16

#define JOB_SENTENCE_BYTES 512

// One rank's row of the pairs; travels as it is.
struct job_row {
    float us[PAIRS_SLOTS];
    char reason[PAIRS_REASON_BYTES]; // the first failure's, or ""
};

struct job {
    struct self *self;
    int64_t timeout_us;
    bool joined;
    bool reporter; // this rank prints
    // Why the ranks did not meet, or where it ended early; "".
    char failure[JOB_SENTENCE_BYTES];

    int32_t count;       // ranks that are known: all that answer, or this one
    int32_t index;       // of this rank
    int32_t *ranks;      // [count]
    struct facts *facts; // [count]
    int32_t *absent;     // world ranks that stopped answering
    int32_t absent_count;

    int32_t *node_of; // [count]; NULL: not known
    int32_t node_count;
    struct clocks_bound *clocks; // [count], seen by the first; NULL

    const char *transport; // between nodes; "" none is needed; NULL: there is
                           // none
    int32_t *members;      // of the pairs: indices of ranks
    int32_t member_count;
    struct job_row *rows; // [member_count]; NULL: not measured
    // The transport reaches more pairs by the interfaces of the rendezvous than
    // by the devices that it chooses itself; the rows are of the former.
    bool by_interface;
    struct interface interface; // this rank's

    // Behind it all; job_close.
    struct exchange *exchange;
    struct exchange_group group;
    struct health *health;
    struct kept *kept; // what a transport may still use
    uint32_t spaces;
};

// Meets the other ranks and learns of them what can be learnt. What goes wrong
// is in the job. Bounded by the timeout, at each meeting.
void job_open(struct self *self, int64_t timeout_us, struct job *job);
// Closes self, too: transports first.
void job_close(struct job *job);

// The way from one member to another in microseconds, or PAIRS_*.
float job_pair_us(const struct job *job, int32_t from, int32_t to);

// Whether ranks outnumber processors on some host, so that times say little.
bool job_is_crowded(const struct job *job);

// pairing.c: the pairs of a job. Collective over group; TIMEOUT and PEER if a
// rank stops answering.
tally_status_t job_pairs_measure(struct job *job);
void job_kept_free(struct job *job);

#endif
