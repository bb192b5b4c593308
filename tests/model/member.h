// SPDX-License-Identifier: BSD-3-Clause
// The replicas of replica.pml: they contribute, learn, release, apply, restore;
// and the processes that crash them and watch for progress.

#ifdef RELEASE
#define BOTH(what) (what[0] == W_DECISION && what[1] == W_DECISION)
#define RELEASED(r) ((r) != 0 || (BOTH(word) && seen[0] != 0 && seen[1] != 0))
#define LIVE(r) (ALIVE(r) && !IN(r, fenced))
#else
#define RELEASED(r) true
#define LIVE(r) ALIVE(r)
#endif

// A contribution may carry the proposal once every newcomer reported READY.
#define NEWCOMERS (MEMBERS1 & ~MEMBERS0)
#ifdef M_NAMED_BEFORE_READY
#define MAY_NAME true
#else
#define MAY_NAME ((NEWCOMERS & lagging) == 0)
#endif
#define MAY_FLAG \
    (kind[cur] == K_APPLY || (EPOCHS && !pending && MAY_NAME))
#define MAY_NOT_FLAG(r) (kind[cur] == K_COUNT || RELEASED(r))
#ifdef M_OLD_INCARNATION
#define OUTDATED(r) (r == 1)
#else
#define OUTDATED(r) false
#endif
#define MAY_CONTRIBUTE(r) \
    (LIVE(r) && known[r] == cur && cur < SLOTS && !IN(r, contrib[cur]) && \
     (IN(r, who[cur]) || OUTDATED(r)))

#ifdef M_EXCLUDED_APPLIES
#define APPLIES(r, s) true
#else
#define APPLIES(r, s) (IN(r, LOW(dec[s])) && !IN(r, lagging))
#endif

// Who applied a slot had applied the same ones before.
#define SAME_AS(q) \
    assert(!(q < P && IN(q, app[s])) || \
           ((applied[(q < P -> q : 0)] ^ applied[r]) & (BIT(s) - 1)) == 0)

inline apply(r)
{
    printf("replica %d applies slot %d\n", r, s);
    app[s] = app[s] | BIT(r);
    CHECK_APPLIED(s); // 7: only the decided set applies
    SAME_AS(0); // 10: equal parameters
    SAME_AS(1); // 10: equal parameters
    SAME_AS(2); // 10: equal parameters
    applied[r] = applied[r] | BIT(s)
}

// From whoever holds the state of this slot, or of a later one. Snapshots
// say at which index they were taken.
#ifdef M_RESTORE_UNTAGGED
#define TAKE_STATE(q) skip
#else
#define TAKE_STATE(q) applied[r] = applied[q]
#endif
#define RESTORE(q) \
    :: d_step { \
        q != r && LIVE(r) && LIVE(q) && IN(r, lagging) && !IN(q, lagging) && \
        known[q] >= known[r] -> \
        printf("replica %d restores from %d, through slot %d\n", r, q, \
               known[q] - 1); \
        known[r] = known[q]; \
        TAKE_STATE(q); \
        lagging = lagging & ~BIT(r); \
        has_state = has_state | BIT(r) \
    }

#ifdef RELEASE
// Replica 0 has ranks; the other replicas release as they learn. Decision and
// deadline race for each rank's word; the device takes what it finds.
#ifdef M_NO_CAS
#define FREE(k) (word[k] != W_DECISION)
#define MAY_FENCE false // one violation at a time
#else
#define FREE(k) (word[k] == 0)
#define MAY_FENCE true
#endif
#define RELEASE_RANK(k) \
    :: d_step { \
        r == 0 && ALIVE(r) && known[r] > 0 && IN(r, dec[0]) && \
        !ABORTED(0, dec[0]) && FREE(k) -> \
        printf("replica %d rank %d: the decision releases\n", r, k); \
        assert(!IN(r, fenced)); \
        word[k] = W_DECISION \
    } \
    :: d_step { \
        r == 0 && posted && word[k] == 0 -> \
        printf("replica %d rank %d: the deadline releases NaN\n", r, k); \
        word[k] = W_NAN \
    } \
    :: d_step { \
        r == 0 && word[k] != 0 && seen[k] == 0 -> \
        printf("replica %d rank %d: the device takes %d\n", r, k, word[k]); \
        seen[k] = word[k] \
    }
#ifdef M_RELEASE_FENCED
#define SURRENDER(k) skip
#else
#define SURRENDER(k) \
    word[k] = (word[k] == 0 -> W_NAN : word[k])
#endif
#endif

proctype replica(byte r)
{
    byte s;
end:
    do
    :: d_step {
        MAY_CONTRIBUTE(r) && !IN(r, lagging) && MAY_NOT_FLAG(r) ->
        if
        :: kind[cur] == K_COUNT ->
            printf("replica %d contributes to slot %d\n", r, cur)
        :: else -> printf("replica %d is ready in slot %d\n", r, cur)
        fi;
        contrib[cur] = contrib[cur] | BIT(r);
#ifdef RELEASE
        posted = posted || r == 0;
        assert(r != 0 || kind[cur] == K_COUNT || BOTH(seen)); // 6: no NaN
#endif
#ifdef M_EARLY_APPLY
        s = cur;
        if
        :: kind[s] == K_APPLY -> apply(r)
        :: else
        fi;
        s = 0
#endif
    }
    :: d_step {
        MAY_CONTRIBUTE(r) && !IN(r, lagging) && MAY_FLAG ->
        if
        :: kind[cur] == K_COUNT ->
            printf("replica %d contributes to slot %d, and epoch 1\n", r, cur)
        :: else -> printf("replica %d cannot be ready in slot %d\n", r, cur)
        fi;
        contrib[cur] = contrib[cur] | BIT(r);
        flag[cur] = flag[cur] | BIT(r)
    }
#if defined(STRAGGLERS) || defined(M_NO_DIGEST_CHECK)
    :: d_step { // it does not know, or does not care
        MAY_CONTRIBUTE(r) && IN(r, lagging) && IN(r, has_state) ->
        printf("replica %d, which lags, contributes to slot %d\n", r, cur);
        contrib[cur] = contrib[cur] | BIT(r);
        stale[cur] = stale[cur] | BIT(r)
    }
#endif
#ifdef M_TAKEOVER_ANEW
    :: d_step { // another coordinator of replica 0 reduces again
        r == 0 && known[0] < SLOTS && IN(0, contrib[known[0]]) ->
        printf("replica 0's next coordinator contributes anew to slot %d\n",
               known[0]);
        contrib[known[0]] = contrib[known[0]] | BIT(4)
    }
#endif
#ifdef M_RELEASE_ON_GATHER
    :: d_step {
        contrib[0] == who[0] && !IN(r, early) ->
        printf("replica %d holds all contributions and releases\n", r);
        early = early | BIT(r);
        assert(!SHOWN(0) || dec[0] == who[0]) // 6: releases are decided
    }
#endif
#ifdef M_OVERWRITE_GRADIENT
    :: d_step {
        known[r] == cur && cur < SLOTS && kind[cur] == K_APPLY &&
        !IN(r, over) && IN(r, contrib[cur] & ~flag[cur]) ->
        printf("replica %d, ready, reduces again over fewer\n", r);
        over = over | BIT(r)
    }
#endif
    :: d_step { // votes or COMMIT arrive
        LIVE(r) && known[r] < cur ->
        s = known[r];
        printf("replica %d learns the decision of slot %d\n", r, s);
        if
        :: APPLIED(s, dec[s]) && APPLIES(r, s) ->
#ifdef M_OVERWRITE_GRADIENT
            assert(!IN(r, over)); // 7: it has the gradient over the set
#endif
            apply(r)
        :: APPLIED(s, dec[s]) && !APPLIES(r, s) -> lagging = lagging | BIT(r)
        :: !APPLIED(s, dec[s]) ->
            if
            :: kind[s] == K_COUNT && !ABORTED(s, dec[s]) &&
               !IN(r, LOW(dec[s])) ->
                lagging = lagging | BIT(r) // EXCLUDED
            :: kind[s] == K_APPLY && RETRY(s, dec[s]) &&
               !IN(r, SMALLER(s, dec[s])) -> lagging = lagging | BIT(r)
            :: else
            fi
        fi;
        known[r]++;
        s = 0
    }
    FOR_REPLICAS(RESTORE)
#ifdef RELEASE
    RELEASE_RANK(0) // 6: no release after FENCED
    RELEASE_RANK(1) // 6: no release after FENCED
    :: d_step { // evidence of a newer incarnation, or its own surrender
        r == 0 && !IN(r, fenced) && MAY_FENCE ->
        printf("replica %d is fenced\n", r);
        fenced = fenced | BIT(r);
        SURRENDER(0);
        SURRENDER(1)
    }
#endif
    od
}

// A crash takes a replica and the acceptor in its process. A restart brings
// another id, but for the mutant's.
#if CRASHES > 0
#define CRASH(i) \
    :: d_step { \
        i < A && crashes < CRASHES && ALIVE(i) && IN(i, MAY_CRASH) -> \
        printf("process %d crashes\n", i); \
        crashes++; \
        FORGET(i) \
    }
#ifndef MAY_CRASH
#define MAY_CRASH 31
#endif
#ifdef M_RESTARTED_VOTES
#define FORGET(i) \
    printf("process %d restarts, and votes again\n", i); \
    promised[i] = 0; voted[i] = 0
#else
#define FORGET(i) \
    dead = dead | BIT(i); \
    STILL_THERE
#endif
// 9: nothing is lost with one of two members, or with one acceptor.
#ifdef RETIRE
#define STILL_THERE assert(RECOVERABLE)
#else
#define STILL_THERE \
    assert(!pending || SIZE(MEMBERS1) < 2 || \
           (MEMBERS1 & has_state & ~dead) != 0)
#endif
proctype faults()
{
end:
    do
    CRASH(0) // 9: nothing is lost with it
    CRASH(1) // 9: nothing is lost with it
    CRASH(2) // 9: nothing is lost with it
    CRASH(3) // 9: nothing is lost with it
    CRASH(4) // 9: nothing is lost with it
    od
}
#endif

// 8: where nothing is left to happen, all slots are decided and all alive know.
// No state comes twice (all only grows), so every run comes to such an end.
#ifdef LIVENESS
proctype watch()
{
    byte n;
end:
    do
    :: timeout ->
        d_step {
            assert(SHOWN(SLOTS - 1)); // 8: everything is decided
            n = 0;
            do
            :: n < P ->
                assert(!LIVE(n) || known[n] == SLOTS); // 8: all alive know
                n++
            :: else -> break
            od
        };
        break
    od
}
#endif
