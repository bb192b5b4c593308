// SPDX-License-Identifier: BSD-3-Clause
// See record.h.
#include "replica/loop/record.h"

static const struct {
    const char *what;
    enum recorder_counter counter; // where this replica is in it
} decisions[] = {
    [REPLICA_COUNT] = {"COUNT", RECORDER_COUNTED},
    [REPLICA_ABORT] = {"ABORT", RECORDER_ABORTED},
    [REPLICA_APPLY] = {"APPLY", RECORDER_APPLIED},
    [REPLICA_RETRY] = {"RETRY", RECORDER_RETRIED},
    [REPLICA_DISCARD] = {"DISCARD", RECORDER_DISCARDED},
};

static const char *why(const struct replica_loop *loop,
                       const struct replica_value *value)
{
    const struct replica_epoch *epoch = &loop->node->at.epoch;

    switch ((enum replica_value_kind)value->kind) {
    case REPLICA_COUNT:
        return value->members == epoch->members ? "all members"
                                                : "some were late or are gone";
    case REPLICA_ABORT:
        return value->has_next ? "the membership changes"
                               : "fewer than the minimum";
    case REPLICA_APPLY:
        return "all of these are ready";
    case REPLICA_RETRY:
        return "some gradients did not come";
    case REPLICA_DISCARD:
        return "a veto, or too few are ready";
    }
    return NULL;
}

void record_decision(struct replica_loop *loop,
                     const struct replica_action *action)
{
    const struct replica_value *value = action->value;
    bool of_all =
        value->kind == REPLICA_ABORT || value->kind == REPLICA_DISCARD;
    bool included =
        of_all || (value->members & replica_bit(loop->params.self.peer)) != 0;
    bool is_own =
        loop->phase >= LOOP_ENTERED && action->instance.index == loop->index;
    const struct recorder_step step = {
        .lineage = loop->node->at.epoch.lineage,
        .epoch = loop->node->at.epoch.number,
        .instance = action->instance,
        .members = value->members,
        .what = decisions[value->kind].what,
        .why = why(loop, value),
        .waited_us = is_own ? loop->now_us - loop->offered_us : -1,
    };

    recorder_step(loop->params.recorder, &step);
    recorder_add(loop->params.recorder,
                 included || loop->params.witness
                     ? decisions[value->kind].counter
                     : RECORDER_EXCLUDED,
                 1);
}

void record_report(struct replica_loop *loop, enum replica_status status)
{
    struct recorder *recorder = loop->params.recorder;

    if (status == REPLICA_STATUS_EPOCH)
        recorder_add(recorder, RECORDER_EPOCHS, 1);
    else if (status == REPLICA_STATUS_REFUSED)
        recorder_add(recorder, RECORDER_REFUSED, 1);
    else if (status == REPLICA_STATUS_FENCED)
        recorder_error(recorder, "fenced");
    else if (status == REPLICA_STATUS_CONFLICT)
        recorder_error(recorder, "two things were said about one index");
    else if (status == REPLICA_STATUS_STOPPED && !loop->stopped)
        recorder_error(recorder, "nothing can be decided");
}

void record_doubt(struct replica_loop *loop)
{
    const struct recorder_step step = {
        .lineage = loop->lineage,
        .epoch = loop->node->at.epoch.number,
        .instance = {loop->index, loop->phase == LOOP_ENTERED ? 0 : 1},
        .what = "IN_DOUBT",
        .why = "its deadline passed",
        .waited_us = loop->now_us - loop->offered_us,
    };

    recorder_step(loop->params.recorder, &step);
    recorder_add(loop->params.recorder, RECORDER_IN_DOUBT, 1);
    recorder_error(loop->params.recorder, "a step is in doubt");
}

static const char *state_of(const struct replica_loop *loop)
{
    static const char *const phases[] = {
        [LOOP_IDLE] = "idle",        [LOOP_OFFERED] = "waiting to enter",
        [LOOP_ENTERED] = "counting", [LOOP_COUNTED] = "computing gradients",
        [LOOP_VOTED] = "applying",   [LOOP_DOUBTED] = "in doubt",
    };

    if (loop->node->fenced)
        return "fenced";
    if (!loop->node->located)
        return "starting";
    if (loop->stopped)
        return "stopped";
    return loop->params.witness ? "voting" : phases[loop->phase];
}

void record_view(struct replica_loop *loop)
{
    const struct replica_position *at = &loop->node->at;
    uint64_t all = replica_bit(
        (uint16_t)(loop->params.replicas + loop->params.witnesses - 1));
    const struct recorder_view view = {
        .lineage = at->epoch.lineage,
        .epoch = at->epoch.number,
        .next = at->next,
        .members = at->epoch.members,
        .acceptors = replica_epoch_acceptors(&at->epoch),
        .heard = (all | (all - 1)) & ~loop->dead &
                 ~replica_bit(loop->params.self.peer),
        .state = state_of(loop),
    };

    recorder_view(loop->params.recorder, &view);
}
