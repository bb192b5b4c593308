// SPDX-License-Identifier: BSD-3-Clause
// What goes to the register of lineages, and what it answers: a checkpoint that
// the trainer has stored, and a lineage that is forced.
#include <inttypes.h>
#include <stdio.h>

#include "core/error.h"
#include "replica/loop/state.h"

void loop_swap_lineage(struct replica_loop *loop,
                       const struct replica_position *position)
{
    // Where it fails, it is forced again after a while.
    if (quorum_lineage_swap(loop->params.quorum, position,
                            &loop->force.request) != TALLY_OK)
        core_log(loop->params.log, TALLY_LOG_WARN, "%s", core_error_text());
}

// Where nobody that is left holds what is published it does not help to ask
// again.
static void force_answered(struct replica_loop *loop,
                           const struct quorum_event *event)
{
    uint64_t published = event->record.published.index;

    loop->force.request = 0;
    if (event->status == TALLY_OK)
        return;
    core_log(loop->params.log, TALLY_LOG_WARN, "no lineage was forced: %s",
             event->sentence);
    loop->force.refused = event->status == TALLY_ERR_MISMATCH &&
                          published > loop->node->forced.group.index;
    if (loop->force.refused)
        core_log(loop->params.log, TALLY_LOG_WARN,
                 "replica %u: to go on, continue one that has applied index "
                 "%" PRIu64 ", or end all and start them from that checkpoint",
                 (unsigned)loop->params.self.peer, published);
}

void loop_answered(struct replica_loop *loop, const struct quorum_event *event)
{
    struct loop_publication *publication = &loop->publication;

    if (event->request == loop->force.request) {
        force_answered(loop, event);
        return;
    }
    if (event->request == loop->beginning.request) {
        loop_beginning_answered(loop, event);
        return;
    }
    publication->request = 0;
    publication->status = event->status;
    snprintf(publication->sentence, sizeof(publication->sentence), "%s",
             event->sentence);
    pthread_cond_broadcast(&publication->changed);
}

// Errors: INVALID, and those of quorum_checkpoint_publish.
static tally_status_t request_publication(struct replica_loop *loop,
                                          uint32_t lineage,
                                          struct replica_state state)
{
    uint64_t applied = loop->node->own.index;

    if (loop->publication.request != 0)
        return core_fail(TALLY_ERR_BUSY, "another checkpoint is on its way");
    if (state.index == 0 || state.index > applied)
        return core_fail(TALLY_ERR_INVALID,
                         "a checkpoint of index %" PRIu64 ", where %" PRIu64
                         " is the last that was applied",
                         state.index, applied);
    return quorum_checkpoint_publish(loop->params.quorum, lineage, state,
                                     &loop->publication.request);
}

// The thread of membership answers every request, as long as there are threads.
tally_status_t replica_loop_publish(struct replica_loop *loop, uint32_t lineage,
                                    struct replica_state state)
{
    struct loop_publication *publication = &loop->publication;

    loop_lock(loop);
    tally_status_t status = request_publication(loop, lineage, state);
    if (status == TALLY_OK) {
        while (publication->request != 0 && !park_is_asked(&loop->thread))
            pthread_cond_wait(&publication->changed, &loop->lock);
        if (publication->request != 0)
            status = core_fail(TALLY_ERR_DEAD, "the process exits");
        else if (publication->status != TALLY_OK)
            status =
                core_fail(publication->status, "%s", publication->sentence);
    }
    loop_unlock(loop);
    return status;
}
