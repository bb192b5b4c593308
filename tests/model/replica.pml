// SPDX-License-Identifier: BSD-3-Clause
// The replica path's protocol: contributions, acceptors, ballots, decisions,
// epochs, joins, release and APPLY. Forced lineages are in lineage.pml; what is
// modelled and what is left out is in doc/model.md.
//
// The network is a set of messages that only grows: a message that is not read
// is lost, one that is read twice is duplicated, any order will do. A process
// that takes no step any more has crashed. So loss, duplication, reordering and
// crashes need no statements of their own, but for what a crash forgets.
//
// A *slot* is one decision: COUNT(index), APPLY(index, attempt), COUNT again.
// One machinery decides all slots; the value is the set H of members whose
// write-once votes were held, and everything else is a fold of those votes.
//
// One slot is open at a time. What happens in a slot after its decision changes
// nothing but that slot, so it may as well happen before anything of the next
// one does: only such orders are looked at. An acceptor that is late, or a
// leader of an old slot, is then the same as a silent one.
#include "bounds.h"

#define NONE 255
#define K_COUNT 0
#define K_APPLY 1

// Decisions. dec, kind, who and ep are what everybody would compute from them.
byte dec[SLOTS] = NONE;
byte kind[SLOTS]; // K_COUNT or K_APPLY
byte who[SLOTS];  // members whose votes are asked for
byte ep[SLOTS];   // the epoch the slot is decided in
bool pending;     // a decided value carries epoch 1
byte cur;         // the open slot

// Messages: contributions and their payload (COUNT: it carries the proposal of
// epoch 1; APPLY: the gradient is not complete); votes and values of ballots.
byte contrib[SLOTS], flag[SLOTS], stale[SLOTS];
byte val[BALLOTS + 1] = NONE;
byte votes[BALLOTS + 1];

// Leaders, one a ballot: promises, the union held, the best ballot + 1.
byte replied[BALLOTS + 1], held_union[BALLOTS + 1], best[BALLOTS + 1];

// Acceptors. Which contributions one holds is chosen when it tells: any set of
// those sent.
byte current;                // who has installed all decisions before slot cur
byte promised[A], voted[A]; // in slot cur; voted: highest ballot + 1, or 0

// Replicas: decisions learnt, LAGGING, slots whose gradients they applied.
byte known[P], applied[P];
byte lagging, has_state, dead, retired, crashes;
byte app[SLOTS]; // who applied a slot
#ifdef RELEASE
byte word[2], seen[2]; // replica 0's ranks: the race, what the device took
byte fenced;
bool posted;
#define W_DECISION 1
#define W_NAN 2
#endif
#ifdef M_RELEASE_ON_GATHER
byte early; // released slot 0 as FULL
#endif
#ifdef M_OVERWRITE_GRADIENT
byte over;
#endif

#define BIT(i) (1 << (i))
#define IN(i, set) (((set) >> (i)) & 1)
#define SIZE(set) \
    (IN(0, set) + IN(1, set) + IN(2, set) + IN(3, set) + IN(4, set))
#define ACCEPTORS(s) (ep[s] -> ACCEPTORS1 : ACCEPTORS0)
#define SHOWN(s) (dec[s] != NONE)
#define ALIVE(i) (!IN(i, dead))

#ifdef M_TAKEOVER_ANEW // bits 4 to 7: the second contribution of the same key
#define LOW(v) (((v) | ((v) >> 4)) & 15)
#else
#define LOW(v) (v)
#endif

// What a decided value means.
// A decision that names a newcomer counts nobody, so that the state it is READY
// at is still the last one when the epoch opens.
#define NAMES(s, v) (EPOCHS && kind[s] == K_COUNT && (flag[s] & LOW(v)) != 0)
#define ABORTED(s, v) \
    (SIZE(LOW(v)) < MIN || (NAMES(s, v) && (MEMBERS1 & ~MEMBERS0) != 0))
#define READY(s, v) ((v) & ~flag[s])
#ifdef APPLY
#define APPLIED(s, v) \
    (kind[s] == K_APPLY && (v) == who[s] && READY(s, v) == (v))
#else
#define APPLIED(s, v) (!ABORTED(s, v))
#endif
// Attempt k + 1 is over who was heard, or, if all were, over who was ready; an
// empty or the same set ends the index with DISCARD.
#define SMALLER(s, v) ((v) != who[s] -> (v) : READY(s, v))
#define RETRY(s, v) (!APPLIED(s, v) && SMALLER(s, v) != 0 && \
                     SMALLER(s, v) != who[s])

// Who applies is in the decided set.
#define CHECK_APPLIED(s) \
    assert(app[s] == 0 || !SHOWN(s) || \
           (APPLIED(s, dec[s]) && (app[s] & ~LOW(dec[s])) == 0))

inline open_next(s, v)
{
    if
    :: s + 1 < SLOTS ->
        if
        :: NAMES(s, v) -> pending = true
        :: else
        fi;
        ep[s + 1] = ep[s];
        if
#ifdef APPLY
        :: kind[s] == K_COUNT && !ABORTED(s, v) ->
            kind[s + 1] = K_APPLY;
            who[s + 1] = LOW(v)
        :: kind[s] == K_APPLY && RETRY(s, v) ->
            kind[s + 1] = K_APPLY;
            who[s + 1] = SMALLER(s, v)
#endif
        :: else ->
            ep[s + 1] = ep[s + 1] | pending;
            who[s + 1] = (ep[s + 1] -> MEMBERS1 : MEMBERS0)
        fi
    :: else
    fi
}

// f + 1 votes at one ballot are there.
inline decide(s, v)
{
    printf("slot %d is decided: {%x}\n", s, v);
    assert(dec[s] == NONE || dec[s] == v);    // 1, 9: agreement, for good
    assert((LOW(v) & ~(who[s])) == 0);        // 2: current incarnations
    assert((v & ~contrib[s]) == 0 && v < 16); // 4: the write-once log
    assert((LOW(v) & stale[s]) == 0);         // 10: counted at equal parameters
    if
    :: dec[s] == NONE ->
        dec[s] = v;
#ifdef M_RELEASE_ON_GATHER
        assert(s != 0 || early == 0 || v == who[s]); // 6: releases are decided
#endif
        CHECK_APPLIED(s); // 7: only the decided set applies
#ifdef REACH
        assert(!(REACH));
#endif
        open_next(s, v)
    :: else
    fi
}

// Votes count in the epoch of the slot, and nowhere else.
#ifdef M_OLD_ACCEPTORS_OPEN
#define DECIDES(b) (SIZE(votes[b] & ACCEPTORS(cur)) >= QUORUM || \
                    SIZE(votes[b] & ACCEPTORS0) >= QUORUM)
#define PREPARED(b) (SIZE(replied[b] & ACCEPTORS(cur)) >= QUORUM || \
                     SIZE(replied[b] & ACCEPTORS0) >= QUORUM)
#define SERVES(a) (IN(a, ACCEPTORS(cur)) || IN(a, ACCEPTORS0))
#else
#define DECIDES(b) (SIZE(votes[b] & ACCEPTORS(cur)) >= QUORUM)
#define PREPARED(b) (SIZE(replied[b] & ACCEPTORS(cur)) >= QUORUM)
#define SERVES(a) IN(a, ACCEPTORS(cur))
#endif
#define CAN_VOTE(a) \
    (cur < SLOTS && SERVES(a) && IN(a, current) && ALIVE(a) && !IN(a, retired))

inline vote(a, b)
{
    votes[b] = votes[b] | BIT(a);
    if
    :: DECIDES(b) ->
        decide(cur, val[b]);
        assert(SIZE(votes[b] & ACCEPTORS(cur)) >= QUORUM) // 5: in its epoch
    :: else
    fi
}

// A contribution is held if its sender has applied all before it: otherwise its
// digest of the decision before does not fit.
#ifdef M_NO_DIGEST_CHECK
#define HOLDABLE contrib[cur]
#else
#define HOLDABLE (contrib[cur] & ~stale[cur])
#endif

#ifdef M_FULL_AFTER_PROMISE
#define FREE_FOR_FULL(a) (voted[a] != 1)
#else
#define FREE_FOR_FULL(a) (promised[a] == 0 && voted[a] == 0)
#endif

#define VOTE_FULL(set) \
    :: d_step { \
        CAN_VOTE(a) && ((set) & ~HOLDABLE) == 0 && FREE_FOR_FULL(a) && \
        (val[0] == NONE || val[0] == (set)) -> \
        printf("acceptor %d votes FULL, {%x}, in slot %d\n", a, set, cur); \
        voted[a] = (voted[a] > 1 -> voted[a] : 1); \
        val[0] = set; \
        vote(a, 0) \
    }

// PREPARE of ballot b and its answer, which may be lost, but for the last one:
// progress asks for a leader that is heard.
#ifdef M_FULL_PREFERRED
#define FULL_FIRST 100
#define BEST_OF(a) (IN(a, votes[0]) -> FULL_FIRST : voted[a])
#else
#define BEST_OF(a) voted[a]
#endif
#define PROMISE_HOLDING(b, set) \
    :: d_step { \
        CAN_VOTE(a) && promised[a] < b && val[b] == NONE && \
        ((set) & ~HOLDABLE) == 0 -> \
        printf("acceptor %d, holding {%x}, promises ballot %d in slot %d\n", \
               a, set, b, cur); \
        promised[a] = b; \
        replied[b] = replied[b] | BIT(a); \
        held_union[b] = held_union[b] | (set); \
        best[b] = (BEST_OF(a) > best[b] -> BEST_OF(a) : best[b]) \
    }
#define PROMISE(b) FOR_SETS(PROMISE_HOLDING, b)
#define PROMISE_LOST(b) \
    :: d_step { \
        LOSS && b < BALLOTS && CAN_VOTE(a) && promised[a] < b -> \
        printf("acceptor %d promises ballot %d in slot %d, unheard\n", a, b, \
               cur); \
        promised[a] = b \
    }
#define ACCEPT(b) \
    :: d_step { \
        CAN_VOTE(a) && promised[a] <= b && voted[a] < b + 1 && \
        val[b] != NONE -> \
        printf("acceptor %d accepts ballot %d, {%x}, in slot %d\n", a, b, \
               val[b], cur); \
        promised[a] = b; \
        voted[a] = b + 1; \
        vote(a, b) \
    }

#ifdef M_RETIRE_EARLY
#define MAY_RETIRE true
#else
#define MAY_RETIRE (SIZE(INSTALLED & ACCEPTORS1) >= QUORUM)
#endif

proctype acceptor(byte a)
{
end:
    do
    VOTE_FULL(who[cur])
#ifdef M_TAKEOVER_ANEW
    VOTE_FULL((who[cur] & ~1) | BIT(4))
#endif
#ifdef M_OLD_INCARNATION
    VOTE_FULL((who[cur] & ~4) | BIT(1))
#endif
    FOR_BALLOTS(PROMISE)
    FOR_BALLOTS(PROMISE_LOST)
    FOR_BALLOTS(ACCEPT)
    :: d_step { // votes, COMMIT or a snapshot arrive
        cur < SLOTS && !IN(a, current) && ALIVE(a) && !IN(a, retired) ->
        printf("acceptor %d installs the decision of slot %d\n", a, cur - 1);
        current = current | BIT(a)
    }
#ifdef M_BELOW_LOW_WATER
    :: d_step { // it ought to answer with the decision
        cur < SLOTS && SHOWN(cur) && voted[a] + promised[a] != 0 ->
        printf("acceptor %d forgets slot %d, will answer as if new\n", a, cur);
        promised[a] = 0;
        voted[a] = 0
    }
#endif
#ifdef RETIRE
    :: d_step { // an acceptor that epoch 1 does not name leaves
        cur < SLOTS && ep[cur] && IN(a, INSTALLED & ~ACCEPTORS1) &&
        MAY_RETIRE ->
        printf("acceptor %d retires\n", a);
        retired = retired | BIT(a);
        assert(RECOVERABLE) // 9: a decision outlives f acceptors
    }
#endif
    od
}

// A leader proposes the value of the highest ballot accepted, else the union.
proctype leader(byte b)
{
end:
    do
    :: d_step {
        cur < SLOTS && PREPARED(b) && val[b] == NONE ->
        if
#ifdef M_FULL_PREFERRED
        :: best[b] == FULL_FIRST -> val[b] = val[0]
#endif
        :: best[b] == 0 -> val[b] = held_union[b]
        :: else -> val[b] = val[best[b] - 1]
        fi;
        printf("ballot %d of slot %d proposes {%x}\n", b, cur, val[b]);
        replied[b] = 0;
        held_union[b] = 0;
        best[b] = 0
    }
    od
}

// The next slot: whoever has installed the decision has forgotten all but it.
proctype sequence()
{
    byte i;
end:
    do
    :: d_step {
        cur < SLOTS && SHOWN(cur) ->
        printf("slot %d is opened\n", cur + 1);
        cur++;
        current = 0;
        do
        :: i < A ->
            promised[i] = 0;
            voted[i] = 0;
            i++
        :: else -> break
        od;
        i = 0;
        do
        :: i <= BALLOTS ->
            val[i] = NONE;
            votes[i] = 0;
            replied[i] = 0;
            held_union[i] = 0;
            best[i] = 0;
            i++
        :: else -> break
        od;
        i = 0
    }
    od
}

#include "member.h"

init {
    atomic {
        byte n;
        who[0] = MEMBERS0;
        has_state = MEMBERS0;
        current = ACCEPTORS0;
        lagging = ALL_IDS & ~MEMBERS0;
        n = 0;
        do
        :: n < A -> run acceptor(n); n++
        :: else -> break
        od;
        n = 0;
        do
        :: n < P -> run replica(n); n++
        :: else -> break
        od;
        n = 1;
        do
        :: n <= BALLOTS -> run leader(n); n++
        :: else -> break
        od;
        n = 0;
        run sequence();
#if CRASHES > 0
        run faults();
#endif
#ifdef LIVENESS
        run watch();
#endif
    }
}
