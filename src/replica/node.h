// SPDX-License-Identifier: BSD-3-Clause
// The state of one process and what its roles offer each other. Inside
// src/replica only.
#ifndef REPLICA_NODE_H
#define REPLICA_NODE_H

#include "replica/message.h"
#include "replica/replica.h"

#define REPLICA_KEPT 8 // decisions; more than one index has
#define REPLICA_OUTBOX_BYTES (80 * REPLICA_MESSAGE_MAX)

// Votes for one ballot.
struct replica_tally {
    uint32_t votes; // places in the epoch's acceptors
    struct replica_value value;
};

struct replica_kept {
    struct replica_instance instance;
    uint64_t previous;
    uint32_t epoch;
    struct replica_value value;
};

// What a learner said that it holds.
struct replica_joiner {
    uint64_t incarnation;
    struct replica_state state;
};

struct replica {
    struct replica_params params;
    int64_t now;

    // Where it is.
    bool located;
    uint32_t least_lineage; // as long as it is not located
    struct replica_position at;
    uint64_t index_previous; // at.previous when the index began
    struct replica_state own;
    uint64_t eligible; // whose entries this decision takes
    bool fenced;
    bool ending; // a rank is lost: fenced when the index ends
    bool sealed;

    // As an acceptor of this decision.
    struct replica_ballot promised;
    struct replica_ballot accepted;
    bool has_accepted;
    bool votes; // it was one of an epoch, and nothing is decided since without
                // it

    // As its leader.
    bool leading;
    bool proposing;
    struct replica_ballot ballot;
    uint32_t round; // the highest one seen
    uint32_t tries;
    uint32_t promises; // places in the epoch's acceptors
    uint64_t promised_held;
    bool has_best;
    struct replica_ballot best;

    // As a coordinator: its entry, and what it knows of its ranks.
    bool entered;
    bool acknowledged;
    bool scaled;
    uint8_t gradient;

    // As the one that forces a lineage.
    bool forcing;
    struct replica_epoch force;
    uint64_t sealed_peers;
    struct replica_name sealed_by; // incarnation 0: by none who forces
    struct replica_state frontier;

    uint64_t suspects;
    bool has_proposal;
    struct replica_epoch proposal;
    uint64_t joining; // peers that joiners[] tells of

    int64_t tick_at;
    int64_t lead_at;
    int64_t timer_at;

    size_t action_count;
    size_t outbox_used;
    size_t kept_count; // without a gap until now

    // From here on, nothing is read before it was written.
    struct replica_position forced;
    struct replica_joiner joiners[REPLICA_PEERS_MAX];
    struct replica_tally tallies[2]; // round 0, and its own ballot
    struct replica_value accepted_value;
    struct replica_value proposed;
    struct replica_entry entry; // its own
    struct replica_kept kept[REPLICA_KEPT];
    struct replica_table table;
    struct replica_action actions[REPLICA_ACTIONS_MAX];
    uint8_t outbox[REPLICA_OUTBOX_BYTES];
};

// replica.c: messages and reports go out.
struct replica_message replica_message_for(const struct replica *node,
                                           enum replica_message_kind kind);
void replica_send(struct replica *node, uint64_t peers,
                  const struct replica_message *message);
// The same, to who needs it only if others are lost.
void replica_send_later(struct replica *node, uint64_t peers,
                        const struct replica_message *message);
void replica_reply(struct replica *node, struct replica_name to,
                   const struct replica_message *message);
void replica_report(struct replica *node, enum replica_status status,
                    uint64_t peers);
struct replica_action *replica_act(struct replica *node,
                                   enum replica_action_kind kind);
// All that must learn.
uint64_t replica_everybody(const struct replica *node);
// Its place among the epoch's acceptors; -1: none, or it votes no more.
int replica_acceptor_place(const struct replica *node);

// acceptor.c
void replica_acceptor_entry(struct replica *node,
                            const struct replica_message *message);
void replica_acceptor_prepare(struct replica *node,
                              const struct replica_message *message);
void replica_acceptor_accept(struct replica *node,
                             const struct replica_message *message);

// leader.c
void replica_leader_consider(struct replica *node);
void replica_leader_start(struct replica *node);
void replica_leader_promise(struct replica *node,
                            const struct replica_message *message);
void replica_leader_refused(struct replica *node,
                            const struct replica_message *message);
void replica_leader_propose(struct replica *node);
struct replica_fold replica_fold_of(const struct replica *node);

// learner.c
void replica_learner_vote(struct replica *node,
                          const struct replica_message *message);
void replica_learner_decision(struct replica *node,
                              const struct replica_message *message);
void replica_learner_position(struct replica *node,
                              const struct replica_message *message);
// What was decided from `message` on, for who is late or asks.
void replica_learner_answer(struct replica *node,
                            const struct replica_message *message);
void replica_learner_ask(struct replica *node, uint64_t peers);
void replica_learner_locate(struct replica *node,
                            const struct replica_position *position);
void replica_learner_decided(struct replica *node,
                             const struct replica_value *value);

// coordinator.c
bool replica_coordinator_takes_part(const struct replica *node);
// Says so if the model must be restored.
void replica_coordinator_lags(struct replica *node);
// Says whether it may contribute now, or why not.
void replica_coordinator_stand(struct replica *node);
bool replica_coordinator_is_named(const struct replica *node);
bool replica_coordinator_is_current(const struct replica *node);
void replica_coordinator_contribute(struct replica *node,
                                    const struct numeric_record *records);
void replica_coordinator_enter(struct replica *node, uint8_t vote);
void replica_coordinator_send_entry(struct replica *node, uint64_t peers);
// `eligible`: it took part in that decision.
void replica_coordinator_learned(struct replica *node,
                                 const struct replica_kept *kept,
                                 bool eligible);
void replica_coordinator_restored(struct replica *node,
                                  struct replica_state state);
void replica_coordinator_rank_lost(struct replica *node);
void replica_coordinator_fence(struct replica *node);

// apply.c
void replica_apply_acknowledged(struct replica *node, uint64_t decision,
                                bool scaled);
void replica_apply_gradient(struct replica *node, uint64_t decision,
                            uint8_t vote);

// epoch.c
void replica_epoch_begin(struct replica *node);
void replica_epoch_join(struct replica *node,
                        const struct replica_message *message);
void replica_epoch_announce(struct replica *node);
bool replica_epoch_proposal(const struct replica *node,
                            struct replica_epoch *out);

// lineage.c
void replica_lineage_force(struct replica *node,
                           const struct replica_epoch *epoch);
void replica_lineage_seal(struct replica *node,
                          const struct replica_message *message);
void replica_lineage_sealed(struct replica *node,
                            const struct replica_message *message);
void replica_lineage_repeat(struct replica *node);
// What any message tells who forces: that start of the peer is there.
void replica_lineage_heed(struct replica *node, struct replica_name from);
void replica_lineage_adopt(struct replica *node,
                           const struct replica_position *position);

#endif
