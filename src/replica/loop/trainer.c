// SPDX-License-Identifier: BSD-3-Clause
// What the trainer is owed. It has offered a contribution, or voted on its
// gradient, and is told once what became of that, by the deadline at the
// latest.
#include <string.h>

#include "core/clock.h"
#include "replica/loop/record.h"

static void outcome_begin(const struct replica_loop *loop,
                          tally_replica_status_t status,
                          struct replica_outcome *out)
{
    const struct replica_position *at = &loop->node->at;

    memset(out, 0, sizeof(*out));
    out->status = status;
    out->lineage = at->epoch.lineage;
    out->epoch = at->epoch.number;
    out->state = at->group;
}

// Hands it out, or keeps it until it is asked for.
static void tell(struct replica_loop *loop,
                 const struct replica_outcome *outcome)
{
    bool goes_on = outcome->status == TALLY_REPLICA_COUNTED ||
                   outcome->status == TALLY_REPLICA_RETRY;

    if (loop->phase == LOOP_COUNTED || loop->phase == LOOP_DOUBTED) {
        loop->verdict = *outcome;
        loop->has_verdict = true;
        return;
    }
    loop->outcome = *outcome;
    loop->has_outcome = true;
    loop->decision = outcome->digest;
    loop->phase = goes_on ? LOOP_COUNTED : LOOP_IDLE;
}

static void tell_status(struct replica_loop *loop,
                        tally_replica_status_t status)
{
    struct replica_outcome outcome;

    outcome_begin(loop, status, &outcome);
    tell(loop, &outcome);
}

static tally_replica_status_t status_of(const struct replica_value *value,
                                        bool included)
{
    switch ((enum replica_value_kind)value->kind) {
    case REPLICA_ABORT:
        return TALLY_REPLICA_ABORTED;
    case REPLICA_DISCARD:
        return TALLY_REPLICA_DISCARDED;
    case REPLICA_COUNT:
        return included ? TALLY_REPLICA_COUNTED : TALLY_REPLICA_EXCLUDED;
    case REPLICA_RETRY:
        return included ? TALLY_REPLICA_RETRY : TALLY_REPLICA_EXCLUDED;
    case REPLICA_APPLY:
        return included ? TALLY_REPLICA_APPLY : TALLY_REPLICA_EXCLUDED;
    }
    return TALLY_REPLICA_IN_DOUBT;
}

void loop_told(struct replica_loop *loop, const struct replica_action *action)
{
    const struct replica_value *value = action->value;
    uint64_t self = replica_bit(loop->params.self.peer);
    bool included = (value->members & self) != 0;
    struct replica_outcome outcome;

    if (action->instance.index != loop->index ||
        action->position->epoch.lineage != loop->lineage)
        return;
    if (included && value->kind == REPLICA_COUNT &&
        !replica_slot_release(&loop->slot, loop->lineage, loop->index)) {
        // The deadline won: a NaN is out, and this replica cannot be ready.
        loop->late = value->digest;
        return;
    }
    if (loop->phase == LOOP_IDLE || loop->phase == LOOP_OFFERED)
        return;
    outcome_begin(loop, status_of(value, included), &outcome);
    outcome.instance = action->instance;
    outcome.members = value->members;
    outcome.digest = value->digest;
    memcpy(outcome.totals, value->totals,
           loop->params.records * sizeof(outcome.totals[0]));
    tell(loop, &outcome);
}

// A NaN was handed out where a COUNT includes this replica: it votes OUT.
static void confess(struct replica_loop *loop)
{
    struct replica_event event = {.kind = REPLICA_EVENT_ACKNOWLEDGED,
                                  .decision = loop->late};

    loop->late = 0;
    loop_handle(loop, &event);
}

static void ask(struct replica_loop *loop)
{
    struct replica_event event = {.kind = REPLICA_EVENT_ASK};

    loop_handle(loop, &event);
}

static bool may_enter(const struct replica_loop *loop)
{
    const struct replica *node = loop->node;

    return replica_coordinator_takes_part(node) && !node->entered &&
           node->at.next.attempt == 0;
}

static void enter(struct replica_loop *loop)
{
    struct replica_event event = {.kind = REPLICA_EVENT_CONTRIBUTION,
                                  .records = loop->records};

    loop->phase = LOOP_ENTERED;
    loop->index = loop->node->at.next.index;
    loop->lineage = loop->node->at.epoch.lineage;
    replica_slot_begin(&loop->slot, loop->lineage, loop->index);
    loop_handle(loop, &event);
}

// The model is not the group's.
static bool lags(const struct replica_loop *loop)
{
    return loop->node->located && !replica_coordinator_is_current(loop->node);
}

static void serve_offered(struct replica_loop *loop)
{
    if (lags(loop))
        tell_status(loop, TALLY_REPLICA_LAGGING);
    else if (may_enter(loop) && !loop_waits_for_joiner(loop))
        enter(loop);
    else if (loop->now_us >= loop->deadline_us)
        tell_status(loop, TALLY_REPLICA_WAITING);
}

// The index ended without a word to this replica: it had to catch up.
static bool was_missed(const struct replica_loop *loop)
{
    return loop->phase >= LOOP_ENTERED && !loop->has_verdict &&
           !loop->has_outcome &&
           (loop->node->at.next.index > loop->index ||
            loop->node->at.epoch.lineage > loop->lineage);
}

static void serve_deadline(struct replica_loop *loop)
{
    if (loop->phase == LOOP_ENTERED) {
        if (!replica_slot_expire(&loop->slot, loop->lineage, loop->index))
            return;
        record_doubt(loop);
        tell_status(loop, TALLY_REPLICA_IN_DOUBT);
    } else {
        record_doubt(loop);
        tell_status(loop, TALLY_REPLICA_IN_DOUBT);
        loop->phase = LOOP_DOUBTED;
    }
    ask(loop);
}

void loop_serve_trainer(struct replica_loop *loop)
{
    if (loop->late != 0)
        confess(loop);
    if (loop->node->fenced) {
        if (loop->phase != LOOP_IDLE && !loop->has_verdict)
            tell_status(loop, TALLY_REPLICA_FENCED);
        return;
    }
    if (loop->phase == LOOP_OFFERED)
        serve_offered(loop);
    if (was_missed(loop))
        tell_status(loop, lags(loop) ? TALLY_REPLICA_LAGGING
                                     : TALLY_REPLICA_EXCLUDED);
    if ((loop->phase == LOOP_ENTERED || loop->phase == LOOP_VOTED) &&
        loop->now_us >= loop->deadline_us)
        serve_deadline(loop);
}

// ------------------------------------------------------------------ the calls

void replica_loop_contribute(struct replica_loop *loop,
                             const struct numeric_record *records)
{
    loop_lock(loop);
    memcpy(loop->records, records,
           loop->params.records * sizeof(loop->records[0]));
    loop->phase = LOOP_OFFERED;
    loop->has_verdict = false;
    loop->now_us = clock_now_us();
    loop->offered_us = loop->now_us;
    loop->deadline_us = loop->offered_us + loop->params.deadline_us;
    loop_serve_trainer(loop); // no thread has to wake up for it
    bool wakes = loop_oversleeps(loop);
    loop_unlock(loop);
    if (wakes)
        loop_wake(loop);
}

// The verdict may be there already.
static void await(struct replica_loop *loop)
{
    loop->phase = LOOP_VOTED;
    loop->deadline_us = clock_now_us() + loop->params.deadline_us;
    if (loop->has_verdict) {
        loop->has_verdict = false;
        tell(loop, &loop->verdict);
    }
}

void replica_loop_vote(struct replica_loop *loop, uint8_t vote)
{
    struct replica_event acknowledged = {
        .kind = REPLICA_EVENT_ACKNOWLEDGED,
        .scaled = vote != REPLICA_OUT,
    };
    struct replica_event gradient = {.kind = REPLICA_EVENT_GRADIENT,
                                     .vote = vote};

    loop_lock(loop);
    acknowledged.decision = loop->decision;
    gradient.decision = loop->decision;
    await(loop);
    if (loop->phase == LOOP_VOTED) {
        loop_handle(loop, &acknowledged);
        if (vote != REPLICA_OUT)
            loop_handle(loop, &gradient);
    }
    bool wakes = loop_oversleeps(loop);
    loop_unlock(loop);
    if (wakes)
        loop_wake(loop);
}

void replica_loop_await(struct replica_loop *loop)
{
    loop_lock(loop);
    await(loop);
    loop_unlock(loop);
    loop_wake(loop);
}

void replica_loop_restored(struct replica_loop *loop,
                           struct replica_state state)
{
    struct replica_event event = {.kind = REPLICA_EVENT_RESTORED,
                                  .state = state};

    loop_lock(loop);
    loop_handle(loop, &event);
    loop_unlock(loop);
    loop_wake(loop);
}

void replica_loop_rank_lost(struct replica_loop *loop)
{
    struct replica_event event = {.kind = REPLICA_EVENT_RANK_LOST};

    loop_lock(loop);
    loop_handle(loop, &event);
    loop_unlock(loop);
    loop_wake(loop);
}
