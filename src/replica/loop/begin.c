// SPDX-License-Identifier: BSD-3-Clause
// The beginning. Peer 0 begins when all peers have said, in a heartbeat to its
// present incarnation, that they know of no job; whoever has said so takes a
// position from no older peer 0. So there are no two beginnings among whom a
// quorum of one could decide without the other: a second one needs the word of
// all, of those of the first too.
//
// Where there is a register, and it holds something, all have been started
// again: they begin the lineage after that, by compare-and-swap, at the
// checkpoint that is published. What is left of the job before, stopped and
// continued, is of a lineage that is over.
#include <inttypes.h>

#include "core/error.h"
#include "replica/loop/state.h"

// From one that fails to the next.
#define AGAIN_US 1000000

static bool all_are_new(const struct replica_loop *loop, uint64_t there)
{
    for (uint16_t i = 0; i < loop_peer_count(loop); i++) {
        struct replica_peers_beat beat;
        uint64_t incarnation;
        if (i == loop->params.self.peer)
            continue;
        if ((there & replica_bit(i)) == 0 ||
            !replica_peers_heard(loop->peers, i, &incarnation, &beat) ||
            beat.located || beat.root != loop->params.self.incarnation)
            return false;
    }
    return true;
}

// False: not all are there, or some know of a job.
static bool name_all(const struct replica_loop *loop,
                     struct replica_epoch *epoch)
{
    uint64_t incarnations[REPLICA_PEERS_MAX];
    uint64_t there = loop_who_is_there(loop, incarnations);

    if (!all_are_new(loop, there))
        return false;
    *epoch = (struct replica_epoch){.number = 1};
    loop_name_members(loop, there, incarnations, epoch);
    loop_choose_acceptors(loop, there, incarnations, epoch);
    return true;
}

static void begin(struct replica_loop *loop,
                  const struct replica_position *first)
{
    struct replica_message message =
        replica_message_for(loop->node, REPLICA_POSITION);

    message.lineage = first->epoch.lineage;
    message.epoch = first->epoch.number;
    message.instance = first->next;
    message.previous = first->previous;
    message.position = *first;
    loop_hear(loop, &message);
}

static void begin_anew(struct replica_loop *loop)
{
    struct replica_position first = {.next = {.index = 1}};

    if (!name_all(loop, &first.epoch))
        return;
    first.epoch.lineage = 1;
    // What follows is refused by whoever began otherwise.
    first.previous = replica_epoch_digest(1, &first.epoch);
    begin(loop, &first);
}

static void begin_after(struct replica_loop *loop,
                        const struct quorum_record *record)
{
    struct loop_beginning *beginning = &loop->beginning;
    struct replica_position *first = &beginning->position;

    *first = (struct replica_position){.group = record->published};
    first->next.index = record->published.index + 1;
    if (!name_all(loop, &first->epoch))
        return;
    first->epoch.lineage = record->position.epoch.lineage + 1;
    first->previous = replica_epoch_digest(
        replica_digest(record->published.digest, first->next.index),
        &first->epoch);
    beginning->swaps = true;
    tally_status_t status =
        quorum_lineage_swap(loop->params.quorum, first, &beginning->request);
    if (status != TALLY_OK)
        core_log(loop->params.log, TALLY_LOG_WARN, "%s", core_error_text());
}

// Who was named may have been started again meanwhile.
static void begin_swapped(struct replica_loop *loop)
{
    const struct replica_position *first = &loop->beginning.position;
    struct replica_epoch named;

    if (!name_all(loop, &named) || !replica_epoch_same(&named, &first->epoch))
        return;
    core_log(loop->params.log, TALLY_LOG_WARN,
             "replica %u: all have been started again: they begin lineage "
             "%" PRIu32 " with the checkpoint of index %" PRIu64
             ", which was published last; to begin without it, use another "
             "TALLY_JOB",
             (unsigned)loop->params.self.peer, first->epoch.lineage,
             first->group.index);
    begin(loop, first);
}

void loop_beginning_answered(struct replica_loop *loop,
                             const struct quorum_event *event)
{
    struct loop_beginning *beginning = &loop->beginning;
    const struct quorum_record *record = &event->record;
    bool swapped = beginning->swaps;

    beginning->request = 0;
    beginning->swaps = false;
    if (event->status != TALLY_OK) {
        beginning->again_us = loop->now_us + AGAIN_US;
        core_log(loop->params.log, TALLY_LOG_WARN,
                 "the job does not begin yet: %s", event->sentence);
    } else if (loop->node->located) {
        return;
    } else if (swapped) {
        begin_swapped(loop);
    } else if (record->position.epoch.lineage == 1 &&
               record->published.index == 0) {
        begin_anew(loop);
    } else {
        begin_after(loop, record);
    }
}

void loop_consider_beginning(struct replica_loop *loop)
{
    struct loop_beginning *beginning = &loop->beginning;
    uint64_t incarnations[REPLICA_PEERS_MAX];

    if (beginning->request != 0 || loop->now_us < beginning->again_us ||
        !all_are_new(loop, loop_who_is_there(loop, incarnations)))
        return;
    if (!quorum_has_register(loop->params.quorum))
        begin_anew(loop);
    else if (quorum_register_read(loop->params.quorum, &beginning->request) !=
             TALLY_OK)
        core_log(loop->params.log, TALLY_LOG_WARN, "%s", core_error_text());
}
