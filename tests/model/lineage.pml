// SPDX-License-Identifier: BSD-3-Clause
// Forced lineages: survivors seal L, a record of L + 1 is written, zombies of L
// come back. How L decides is replica.pml's matter: here, f + 1 votes of
// acceptors that are not sealed decide an index, with a set S that may leave a
// replica out.
//
// Nodes 0 and 1 are a replica and an acceptor each, node 2 is the witness. The
// lost and the slow look alike: a node that takes no step is lost, and one that
// takes one again is a zombie. Two operators may force at the same time.

#ifndef INDICES
#define INDICES 2
#endif
#define N 3
#define REPLICAS 3 // nodes 0 and 1, as a set
#define QUORUM 2
#define BIT(i) (1 << (i))
#define IN(i, set) (((set) >> (i)) & 1)
#define SIZE(set) (IN(0, set) + IN(1, set) + IN(2, set))
#define MAX(a, b) ((a) > (b) -> (a) : (b))

// Lineage L: votes and the decided set of an index.
byte votes[INDICES], value[INDICES];
bool decided[INDICES];

// Nodes: decisions learnt, state (indices of L it applied in bits 0 to 3, of
// L + 1 in bits 4 to 7; through: how many indices it holds), which lineage.
byte known[N], through[N], applied[N], lineage[N]; // lineage: 0, or who forced
byte sealed;
byte again; // nodes that started again
byte restarts;

// What a forcer gathered, and the durable record: who wrote it (0: it says L),
// base index, members; the newest checkpoint and the lineage it is tagged with.
byte list[3], reported[3], frontier[3];
byte record, base, members, published, published_by, checkpoint;

// L + 1: votes and decisions; value is the forcer whose record was followed.
byte next_votes[INDICES * 3], next_value[INDICES];
#define NEXT(k) next_votes[(k) * 3 + lineage[n]]

#define BELOW(i) (BIT(i) - 1)
// A state that belongs to the lineage of the record: nothing of L from the base
// on, nothing of L + 1 before.
#define OF_RECORD(state) \
    (((state) & 15 & ~BELOW(base)) == 0 && (((state) >> 4) & BELOW(base)) == 0)

#ifdef M_UNSEALED
#define MAY_ACT(n) (lineage[n] == 0)
#else
#define MAY_ACT(n) (lineage[n] == 0 && !IN(n, sealed))
#endif
// The start that lists and epochs name.
#define IS_NAMED(n, set) (IN(n, set) && !IN(n, again))

#define VOTE(set) \
    :: d_step { \
        MAY_ACT(n) && known[n] < INDICES && \
        !IN(n, votes[known[n]] | again) && (votes[known[n]] == 0 || \
                                            value[known[n]] == (set)) -> \
        printf("node %d votes for {%x} at index %d of L\n", n, set, known[n]); \
        value[known[n]] = set; \
        votes[known[n]] = votes[known[n]] | BIT(n); \
        decided[known[n]] = SIZE(votes[known[n]]) >= QUORUM \
    }

// A restore from a peer of the same lineage. Who is sealed keeps its state.
#ifdef M_RESTORE_SEALED
#define MAY_RESTORE(n) true
#else
#define MAY_RESTORE(n) MAY_ACT(n)
#endif
#define RESTORE(q) \
    :: d_step { \
        q != n && n < 2 && lineage[n] == lineage[q] && \
        through[n] < known[n] && through[q] >= known[n] && \
        (lineage[n] != 0 || MAY_RESTORE(n)) -> \
        printf("node %d restores from %d, through index %d\n", n, q, \
               through[q] - 1); \
        known[n] = through[q]; \
        through[n] = through[q]; \
        applied[n] = applied[q] \
    }

#ifdef M_PUBLISH_UNCHECKED
#define RECORD_CONSENTS(n) true
#else
#define RECORD_CONSENTS(n) (lineage[n] == record)
#endif

proctype node(byte n)
{
    byte k;
end:
    do
    VOTE(1)
    VOTE(2)
    VOTE(3)
    :: d_step {
        MAY_ACT(n) && known[n] < INDICES && decided[known[n]] ->
        k = known[n];
        printf("node %d learns index %d of L\n", n, k);
        if
        :: n < 2 && IS_NAMED(n, value[k]) && through[n] == k ->
            applied[n] = applied[n] | BIT(k);
            through[n]++
        :: else
        fi;
        known[n]++;
        k = 0
    }
    RESTORE(0)
    RESTORE(1)
#ifdef RESTARTS
    :: d_step { // before anything of L + 1: what follows then is an epoch's matter
        n < 2 && restarts < RESTARTS && lineage[n] == 0 && !IN(n, again) ->
        printf("node %d crashes, and starts again\n", n);
        restarts++;
        again = again | BIT(n);
        sealed = sealed & ~BIT(n);
        known[n] = 0;
        through[n] = 0;
        applied[n] = 0
    }
#endif
    :: d_step { // only with the record's consent
        n < 2 && through[n] > published && RECORD_CONSENTS(n) ->
        printf("node %d publishes the checkpoint of index %d\n", n,
               through[n] - 1);
        published = through[n];
        published_by = lineage[n];
        checkpoint = applied[n];
        assert(record == 0 || OF_RECORD(checkpoint)) // 9: none is void
    }
    :: d_step { // it reads the record: a survivor goes on, others are FENCED
        lineage[n] == 0 && record != 0 ->
        printf("node %d reads the record of L + 1\n", n);
        assert(!IS_NAMED(n, members) || through[n] <= base); // 9: commits stay
        lineage[n] = record;
        known[n] = base;
#ifndef M_NOT_ROLLED_BACK
        if
        :: n < 2 && through[n] > base -> // ROLLED_BACK: it restores
            printf("node %d is rolled back\n", n);
            through[n] = 0;
            applied[n] = 0
        :: else
        fi
#else
        known[n] = MAX(through[n], base)
#endif
    }
    :: d_step { // a checkpoint up to the base
        n < 2 && lineage[n] != 0 && through[n] < known[n] &&
        published >= known[n] ->
        printf("node %d restores the checkpoint\n", n);
        known[n] = published;
        through[n] = published;
        applied[n] = checkpoint;
        assert(OF_RECORD(applied[n])) // 9: no void state is restored
    }
    :: d_step { // L + 1 goes on
        lineage[n] != 0 && IS_NAMED(n, members) && known[n] < INDICES &&
        (n == 2 || through[n] == known[n]) &&
        !IN(n, NEXT(known[n])) ->
        k = known[n];
        printf("node %d votes at index %d of L + 1\n", n, k);
        NEXT(k) = NEXT(k) | BIT(n);
        if
        :: (list[lineage[n]] & ~NEXT(k)) == 0 ->
            printf("index %d of L + 1 is decided\n", k);
            assert(next_value[k] == 0 || next_value[k] == lineage[n]); // 1, 5
            next_value[k] = lineage[n]
        :: else
        fi;
        k = 0
    }
    :: d_step {
        lineage[n] != 0 && known[n] < INDICES && through[n] == known[n] &&
        next_value[known[n]] == lineage[n] ->
        k = known[n];
        printf("node %d applies index %d of L + 1\n", n, k);
        applied[n] = applied[n] | BIT(k + 4);
        through[n]++;
        known[n]++;
        assert(OF_RECORD(applied[n])); // 10: equal parameters in L + 1
#ifdef REACH // a zombie that was rolled back goes on in L + 1
        assert(n != 1 || IN(1, members) || votes[0] == 0 || !IN(1, value[0]));
#endif
        k = 0
    }
    od
}

// A forcer asks the survivors on its list to seal and to report their frontier.
#define REPORT(n) \
    :: d_step { \
        IS_NAMED(n, list[f]) && !IN(n, reported[f]) && lineage[n] == 0 -> \
        printf("node %d seals L and reports %d to forcer %d\n", n, through[n], \
               f); \
        sealed = sealed | BIT(n); \
        reported[f] = reported[f] | BIT(n); \
        frontier[f] = MAX(frontier[f], through[n]) \
    }
#define LISTS(set) \
    :: d_step { list[f] == 0 && ((set) & again) == 0 -> list[f] = set }

// It hears a later start of one on its list: that one is gone, and what it
// reported with it. Who is left reports again.
#ifdef M_FRONTIER_KEPT
#define FORGET(f)
#else
#define FORGET(f) reported[f] = 0; frontier[f] = 0;
#endif
#define STRIKES_OUT(n) \
    :: d_step { \
        IN(n, list[f] & again) && record != f -> \
        printf("forcer %d strikes out node %d\n", f, n); \
        list[f] = list[f] & ~BIT(n); \
        reported[f] = reported[f] & ~BIT(n); \
        FORGET(f) \
        if \
        :: (list[f] & REPLICAS) == 0 -> list[f] = 0; reported[f] = 0 \
        :: else \
        fi \
    }

#ifdef M_NO_LINEAGE_CAS
#define RECORD_IS_OF_L true
#else
#define RECORD_IS_OF_L (record == 0)
#endif

// As far as the forcer can know: a member may be gone without its hearing of it.
#define HOLDS_BASE(n) \
    (IN(n, members) && (IN(n, again) || through[n] == base))

proctype forcer(byte f)
{
end:
    do
    LISTS(1)
    LISTS(2)
    LISTS(3)
    LISTS(6)
    REPORT(0)
    REPORT(1)
    REPORT(2)
#ifdef RESTARTS
#ifndef M_LISTED_FOREVER
    STRIKES_OUT(0)
    STRIKES_OUT(1)
#endif
#endif
    :: d_step {
        list[f] != 0 && reported[f] == list[f] && record != f &&
        (list[f] & REPLICAS) != 0 && RECORD_IS_OF_L ->
        members = list[f];
        record = f;
#ifdef M_BASE_IGNORES_CHECKPOINT
        base = frontier[f];
#else
        base = MAX(frontier[f], published);
#endif
        printf("forcer %d writes L + 1: base %d, members {%x}\n", f, base,
               members);
        assert(OF_RECORD(checkpoint)); // 9: the newest checkpoint is not void
        assert(published >= base || HOLDS_BASE(0) || HOLDS_BASE(1)) // 9: a member holds the base
    }
    od
}

#ifdef RESTARTS
// Where nothing is left to happen.
proctype watch()
{
    timeout -> assert(record != 0) // 8: a lineage that is forced begins
}
#endif

init {
    atomic {
        run node(0);
        run node(1);
        run node(2);
        run forcer(1);
        run forcer(2);
#ifdef RESTARTS
        run watch()
#endif
    }
}
