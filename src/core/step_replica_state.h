// SPDX-License-Identifier: BSD-3-Clause
// What stands behind step->replica; only step_replica.c and replica.c include
// this.
#ifndef CORE_STEP_REPLICA_STATE_H
#define CORE_STEP_REPLICA_STATE_H

#include <pthread.h>

#include "core/replica_open.h"
#include "core/step_replica.h"

// The words of the reduction by which the coordinator tells its ranks, and they
// it: maxima behind the records.
enum word {
    WORD_STATUS,
    WORD_LINEAGE,
    WORD_EPOCH,
    WORD_ATTEMPT,
    WORD_INDEX,
    WORD_MEMBERS,
    WORD_DIGEST,
    WORD_STATE_INDEX,
    WORD_STATE_DIGEST,
    WORD_VOTE,
    WORDS
};

enum stage {
    STAGE_NONE,
    STAGE_COUNTED, // tally_replica_ready is awaited
    STAGE_VOTED,   // tally_replica_apply
    STAGE_DOUBTED, // again
};

// What a rank is told.
struct step_decision {
    tally_replica_status_t status;
    uint32_t lineage, epoch, attempt;
    uint64_t index, members, digest;
    uint64_t state_index, state_digest;
};

struct step_kept {
    uint64_t epoch; // 0: not known
    bool counted;   // totals are there
    struct step_decision decision;
    struct numeric_record *totals; // [channel_count]
};

struct step_replica {
    tally_step_t *step;
    bool coordinator;
    struct replica_opened opened; // the coordinator's
    struct queue *queue;
    bool attached;
    size_t lane_count;
    int64_t *lanes; // scratch of the step's thread
    int64_t *told;  // of the loop's

    // The step's thread.
    enum stage stage;
    uint64_t ticket; // of what was posted last, or is awaited
    uint64_t owed;   // outcomes that were asked for
    uint64_t index;
    tally_replica_state_t state;

    // Under the progress lock.
    uint64_t count_ticket;
    uint64_t vote_ticket;
    struct step_kept ring[TALLY_EPOCH_RING];
    struct numeric_record *totals; // of the ring

    // The coordinator's.
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t handed; // outcomes
    bool failed;     // a rank is gone
};

// The step's thread. Expects one more outcome from the coordinator.
void step_replica_expect(struct step_replica *replica);
void step_replica_post_vote(struct step_replica *replica,
                            tally_replica_vote_t vote);
// Waits for the outcome. Errors: those of the group.
tally_status_t step_replica_await(struct step_replica *replica,
                                  struct step_decision *out);
void step_replica_keep(struct step_replica *replica,
                       const struct step_decision *decision);

#endif
