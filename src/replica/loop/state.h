// SPDX-License-Identifier: BSD-3-Clause
// The inside of the loop: what comes of actions (loop.c), its thread
// (thread.c), what the trainer is owed (trainer.c), how the job begins
// (begin.c), who takes part (roster.c), when a lineage is forced (force.c),
// what the register of lineages is told (register.c). All of it is under the
// lock.
#ifndef REPLICA_LOOP_STATE_H
#define REPLICA_LOOP_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/park.h"
#include "replica/loop/ear.h"
#include "replica/loop/loop.h"
#include "replica/loop/peers.h"
#include "replica/node.h"
#include "replica/rank.h"

// A checkpoint that the register is told of.
struct loop_publication {
    pthread_cond_t changed;
    uint64_t request; // 0: it was answered
    tally_status_t status;
    char sentence[QUORUM_SENTENCE_BYTES];
};

// Of peer 0, where there is a register: what it holds is read, and the next
// lineage swapped for it.
struct loop_beginning {
    uint64_t request;                 // that is on its way; 0: none
    bool swaps;                       // else it reads
    int64_t again_us;                 // not before
    struct replica_position position; // that is to be swapped in
};

// What is known of the end of a lineage that too few are left to go on in.
struct loop_force {
    uint64_t
        registered[REPLICA_PEERS_MAX]; // incarnations; 0: its lease is over
    uint32_t ends;     // the lineage that the operator wants to end; 0: none
    int64_t looked_us; // last
    int64_t silent_us; // that no quorum was heard, by a process that ran
    int64_t again_us;  // not before
    uint64_t request;  // of the swap that is on its way; 0: none
    struct replica_epoch list; // that was forced last
    uint64_t survivors;        // of which it was made
    // A checkpoint above its base is published: that lineage is not forced
    // again as long as just those are left.
    bool refused;
};

enum loop_phase {
    LOOP_IDLE,    // nothing is owed
    LOOP_OFFERED, // a contribution is held until it may be said
    LOOP_ENTERED, // it was said, the decision is awaited
    LOOP_COUNTED, // the scale is out, the trainer's vote is awaited
    LOOP_VOTED,   // the verdict is awaited
    LOOP_DOUBTED, // the trainer was told IN_DOUBT, and will ask again
};

struct replica_loop {
    struct replica_loop_params params;
    pthread_mutex_t lock;
    struct park_thread thread;
    atomic_bool stop;
    int wake_fd;
    atomic_int movers; // threads of the trainer that are in replica_loop_move
    int64_t moved_us;  // when one of them went last
    _Atomic int64_t turned_us; // when anybody moved last
    atomic_bool ended; // a process of this host, since peers were looked at

    struct replica_peers *peers;
    struct replica *node;
    int64_t now_us;
    int64_t timer_us;
    int64_t check_us; // of the next look at peers
    // Set by the thread, under the lock or as long as others move.
    _Atomic int64_t sleep_us; // it sleeps until then; 0: it is awake
    atomic_bool listens;      // it sleeps on the transport's descriptor too
    atomic_bool hushed;       // it did, and others move, or have
    bool rings_soon;          // those are gone: it gets up
    struct replica_ear ear;

    // The trainer's side.
    enum loop_phase phase;
    int64_t offered_us;
    int64_t deadline_us;
    struct numeric_record records[REPLICA_RECORDS_MAX];
    struct replica_slot slot;
    uint32_t lineage;  // of the contribution that was said
    uint64_t index;    // of the contribution that was said
    uint64_t decision; // that the vote is about
    uint64_t late;     // a COUNT that came after the deadline; 0: none
    bool has_verdict;  // it came before it was asked for
    struct replica_outcome verdict;
    bool has_outcome; // to be handed out
    struct replica_outcome outcome;

    // Who takes part.
    uint64_t dead;     // processes
    uint64_t suspects; // members: those, and whose later start is there
    uint64_t counted; // of the last COUNT; of an epoch that begins: all members
    uint64_t revision;
    struct replica_epoch proposed;
    uint64_t joiners[REPLICA_PEERS_MAX]; // incarnations that were waited for
    int64_t waited_us[REPLICA_PEERS_MAX];
    uint64_t refused; // messages
    bool stopped;     // said already

    struct loop_beginning beginning;
    struct loop_publication publication;
    struct loop_force force;
};

// loop.c. Lines for the host program's log are kept until the unlock.
void loop_lock(struct replica_loop *loop);
bool loop_try_lock(struct replica_loop *loop);
void loop_unlock(struct replica_loop *loop);
// The thread looks again. Any thread.
void loop_wake(struct replica_loop *loop);
// Gives the state machine an event, and carries out its actions.
void loop_handle(struct replica_loop *loop, const struct replica_event *event);

// thread.c. Errors: SYSTEM.
tally_status_t loop_start_thread(struct replica_loop *loop);
// Whether the thread would sleep for too long: others have moved the loop since
// it lay down. It is to be woken then, after the unlock.
bool loop_oversleeps(struct replica_loop *loop);

// trainer.c: a decision that this replica took part in.
void loop_told(struct replica_loop *loop, const struct replica_action *action);
// What can be said now is said; what is over is handed back.
void loop_serve_trainer(struct replica_loop *loop);

static inline uint16_t loop_peer_count(const struct replica_loop *loop)
{
    return (uint16_t)(loop->params.replicas + loop->params.witnesses);
}

// begin.c: begins the job if it is time to, for peer 0 that knows of none.
void loop_consider_beginning(struct replica_loop *loop);
void loop_beginning_answered(struct replica_loop *loop,
                             const struct quorum_event *event);

// roster.c: looks at peers, and takes what membership says.
void loop_look_at_peers(struct replica_loop *loop);
// Gives the state machine a message that this process has made itself.
void loop_hear(struct replica_loop *loop,
               const struct replica_message *message);
// Everybody that can be heard now, this process too, with its incarnation.
uint64_t loop_who_is_there(const struct replica_loop *loop,
                           uint64_t incarnations[REPLICA_PEERS_MAX]);
// Those of them that are replicas, into `epoch`.
void loop_name_members(const struct replica_loop *loop, uint64_t there,
                       const uint64_t *incarnations,
                       struct replica_epoch *epoch);
// An odd number of them, into `epoch`: those that it has before keep their
// places; others give way to witnesses, then to replicas.
void loop_choose_acceptors(const struct replica_loop *loop, uint64_t there,
                           const uint64_t *incarnations,
                           struct replica_epoch *epoch);
// Whether a contribution should wait a moment for a replica that joins.
bool loop_waits_for_joiner(struct replica_loop *loop);
// Whether a message is of an incarnation that the job may not begin with.
bool loop_is_of_the_past(struct replica_loop *loop, const uint8_t *bytes,
                         size_t length);

// force.c: forces a lineage if it is time to.
void loop_consider_force(struct replica_loop *loop);
// How to go on without a quorum.
void loop_say_stopped(const struct replica_loop *loop, uint64_t acceptors);

// register.c: a compare-and-swap, and what the register answers.
void loop_swap_lineage(struct replica_loop *loop,
                       const struct replica_position *position);
void loop_answered(struct replica_loop *loop, const struct quorum_event *event);

#endif
