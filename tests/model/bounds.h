// SPDX-License-Identifier: BSD-3-Clause
// Bounds of a configuration of replica.pml, each a macro that may be given. Ids
// are (process, incarnation): a restarted process is another id. Acceptor i is
// in the process of replica i, if there is one; higher ids are witnesses.
#ifndef P
#define P 2 // ids of replicas, later incarnations and learners included
#endif
#ifndef A
#define A 3 // ids of acceptors
#endif
#ifndef SLOTS
#define SLOTS 1 // decisions in a row
#endif
#ifndef BALLOTS
#define BALLOTS 1 // leaders, beside ballot 0
#endif
#ifndef MIN
#define MIN 1 // TALLY_REPLICA_MIN
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef LOSS
#define LOSS 0 // promises may be given and their answer lost
#endif
#ifndef EPOCHS
#define EPOCHS 0 // 1: a contribution may carry the proposal of epoch 1
#endif
#ifndef QUORUM
#ifdef M_SMALL_QUORUM
#define QUORUM 1
#else
#define QUORUM 2 // f + 1
#endif
#endif
#ifndef MEMBERS0
#define MEMBERS0 ((1 << P) - 1)
#endif
#ifndef MEMBERS1
#define MEMBERS1 MEMBERS0
#endif
#ifndef ACCEPTORS0
#define ACCEPTORS0 ((1 << A) - 1)
#endif
#ifndef ACCEPTORS1
#define ACCEPTORS1 ACCEPTORS0
#endif
#define ALL_IDS ((1 << P) - 1)

#if P == 2
#define FOR_REPLICAS(X) X(0) X(1)
#define FOR_SETS(X, b) X(b, 0) X(b, 1) X(b, 2) X(b, 3)
#else
#define FOR_REPLICAS(X) X(0) X(1) X(2)
#define FOR_SETS(X, b) \
    X(b, 0) X(b, 1) X(b, 2) X(b, 3) X(b, 4) X(b, 5) X(b, 6) X(b, 7)
#endif
#if BALLOTS == 1
#define FOR_BALLOTS(X) X(1)
#elif BALLOTS == 2
#define FOR_BALLOTS(X) X(1) X(2)
#else
#define FOR_BALLOTS(X) X(1) X(2) X(3)
#endif

// Acceptors that serve and have installed the slot that carries epoch 1, and
// whether its decision outlives the loss of those that do not.
#define INSTALLED (current & ~(dead | retired))
#define RECOVERABLE \
    (cur == SLOTS || !ep[cur] || INSTALLED != 0 || \
     SIZE(ACCEPTORS0 & ~(dead | retired)) >= QUORUM)

// What must be reachable, or a configuration that holds says nothing. Looked at
// when slot s is decided with value v.
#define REACH_ABORT (v != 0 && ABORTED(s, v))
#define REACH_RETRY (kind[s] == K_APPLY && RETRY(s, v))
#define REACH_FEWER (s == 2 && APPLIED(s, v) && v != who[0])
#define REACH_DISCARD (kind[s] == K_APPLY && !APPLIED(s, v) && !RETRY(s, v))
#define REACH_JOINED (ep[s] && IN(2, v) && APPLIED(s, v))
#define REACH_ALONE (ep[s] && !ALIVE(1) && v == 1)
#define REACH_RESTORED (s == 1 && !IN(0, dec[0]) && IN(0, v))
#define REACH_NEW_ACCEPTORS (ep[s] && v == who[s])
