// SPDX-License-Identifier: BSD-3-Clause
// What trainers call of replica groups: the second decision of a step, and the
// state that their model holds.
#include <math.h>

#include "core/api.h"
#include "core/error.h"
#include "core/step_replica_state.h"
#include "core/struct_check.h"

const char *tally_replica_status_string(tally_replica_status_t status)
{
    switch (status) {
    case TALLY_REPLICA_NONE:
        return "none";
    case TALLY_REPLICA_COUNTED:
        return "counted";
    case TALLY_REPLICA_RETRY:
        return "retry";
    case TALLY_REPLICA_APPLY:
        return "apply";
    case TALLY_REPLICA_EXCLUDED:
        return "excluded";
    case TALLY_REPLICA_ABORTED:
        return "aborted";
    case TALLY_REPLICA_DISCARDED:
        return "discarded";
    case TALLY_REPLICA_WAITING:
        return "waiting";
    case TALLY_REPLICA_IN_DOUBT:
        return "in doubt";
    case TALLY_REPLICA_LAGGING:
        return "lagging";
    case TALLY_REPLICA_FENCED:
        return "fenced";
    }
    return "unknown";
}

static tally_status_t fail(const tally_step_t *step, const char *function,
                           tally_status_t status)
{
    return api_fail(step == NULL ? NULL : &step->group->tally->log, function,
                    status);
}

// Errors: INVALID, ORDER.
static tally_status_t check_step(const tally_step_t *step)
{
    if (step == NULL)
        return core_fail(TALLY_ERR_INVALID, "step is NULL");
    if (step->replica == NULL)
        return core_fail(TALLY_ERR_ORDER, "its group is no replica group");
    return TALLY_OK;
}

tally_status_t tally_replica_ready(tally_step_t *step,
                                   tally_replica_vote_t vote)
{
    static const char function[] = "tally_replica_ready";
    tally_status_t status = check_step(step);

    if (status != TALLY_OK)
        return fail(step, function, status);
    if (vote < TALLY_REPLICA_READY || vote > TALLY_REPLICA_VETO)
        return fail(
            step, function,
            core_fail(TALLY_ERR_INVALID, "there is no vote %d", (int)vote));
    struct step_replica *replica = step->replica;
    const struct group_replica *group = &step->group->replica;
    if (step->state != STEP_IDLE || replica->stage != STAGE_COUNTED)
        return fail(
            step, function,
            core_fail(TALLY_ERR_ORDER, "no ended epoch waits for a vote"));
    if (group->commit != NULL && !group->commit(group->context, replica->index,
                                                vote == TALLY_REPLICA_READY))
        vote = TALLY_REPLICA_VETO;
    step_replica_post_vote(replica, vote);
    step_replica_expect(replica);
    replica->stage = STAGE_VOTED;
    return TALLY_OK;
}

static void fill_verdict(const struct step_replica *replica,
                         const struct step_decision *decision,
                         tally_replica_verdict_t *verdict)
{
    verdict->status = decision->status;
    verdict->lineage = decision->lineage;
    verdict->epoch = decision->epoch;
    verdict->attempt = decision->attempt;
    verdict->index = decision->index;
    verdict->members = decision->members;
    verdict->digest = decision->digest;
    verdict->state = replica->state;
}

tally_status_t tally_replica_apply(tally_step_t *step,
                                   tally_replica_verdict_t *given)
{
    static const char function[] = "tally_replica_apply";
    tally_replica_verdict_t verdict = TALLY_INIT(tally_replica_verdict_t);
    struct step_decision decision = {.status = TALLY_REPLICA_NONE};
    tally_status_t status = check_step(step);

    if (status == TALLY_OK)
        status = struct_check("tally_replica_verdict", given,
                              STRUCT_THROUGH(tally_replica_verdict_t, digest));
    if (status != TALLY_OK)
        return fail(step, function, status);
    struct step_replica *replica = step->replica;
    if (replica->stage != STAGE_VOTED && replica->stage != STAGE_DOUBTED)
        return fail(
            step, function,
            core_fail(TALLY_ERR_ORDER, "tally_replica_ready was not called"));
    if (replica->stage == STAGE_DOUBTED) {
        step_replica_expect(replica);
        if (replica->coordinator)
            replica_loop_await(replica->opened.loop);
    }
    replica->stage = STAGE_NONE;
    status = step_replica_await(replica, &decision);
    if (status != TALLY_OK)
        return fail(step, function,
                    core_fail(status, "%s", step->group->fate.sentence));
    step_replica_keep(replica, &decision);
    replica->state.lineage = decision.lineage;
    replica->state.index = decision.state_index;
    replica->state.digest = decision.state_digest;
    if (decision.status == TALLY_REPLICA_IN_DOUBT)
        replica->stage = STAGE_DOUBTED;
    if (decision.status == TALLY_REPLICA_RETRY) {
        replica->stage = STAGE_COUNTED;
        status = step_compute_scales(step);
        if (status != TALLY_OK)
            return fail(step, function, status);
    }
    fill_verdict(replica, &decision, &verdict);
    struct_give(given, &verdict, sizeof(verdict));
    return TALLY_OK;
}

tally_status_t tally_replica_state(const tally_step_t *step,
                                   tally_replica_state_t *state)
{
    static const char function[] = "tally_replica_state";
    tally_status_t status = check_step(step);

    if (status == TALLY_OK)
        status = struct_check("tally_replica_state", state,
                              STRUCT_THROUGH(tally_replica_state_t, digest));
    if (status != TALLY_OK)
        return fail(step, function, status);
    struct_give(state, &step->replica->state, sizeof(step->replica->state));
    return TALLY_OK;
}

// The state that a trainer gives back. Errors: those of check_step, INVALID,
// ABI.
static tally_status_t take_state(const tally_step_t *step,
                                 const tally_replica_state_t *given,
                                 tally_replica_state_t *state)
{
    tally_status_t status = check_step(step);

    return status != TALLY_OK
               ? status
               : struct_take("tally_replica_state", given, state,
                             sizeof(*state),
                             STRUCT_THROUGH(tally_replica_state_t, digest));
}

tally_status_t tally_replica_restored(tally_step_t *step,
                                      const tally_replica_state_t *given)
{
    static const char function[] = "tally_replica_restored";
    tally_replica_state_t state = {0};
    tally_status_t status = take_state(step, given, &state);

    if (status == TALLY_OK && step->state != STEP_IDLE)
        status = core_fail(TALLY_ERR_ORDER, "epoch %llu has not ended",
                           (unsigned long long)step->epoch);
    if (status == TALLY_OK)
        status = step_replica_check_begin(step);
    if (status != TALLY_OK)
        return fail(step, function, status);
    if (step->replica->coordinator)
        replica_loop_restored(
            step->replica->opened.loop,
            (struct replica_state){state.index, state.digest});
    return TALLY_OK;
}

tally_status_t tally_replica_publish(tally_step_t *step,
                                     const tally_replica_state_t *given)
{
    static const char function[] = "tally_replica_publish";
    tally_replica_state_t state = {0};
    tally_status_t status = take_state(step, given, &state);

    if (status == TALLY_OK && !step->replica->coordinator)
        status =
            core_fail(TALLY_ERR_ORDER, "the first rank of a replica publishes");
    if (status == TALLY_OK)
        status = replica_loop_publish(
            step->replica->opened.loop, state.lineage,
            (struct replica_state){state.index, state.digest});
    // Without a register no lineage is forced: there is none to hold back.
    if (status == TALLY_ERR_UNSUPPORTED)
        status = TALLY_OK;
    return status == TALLY_OK ? status : fail(step, function, status);
}
