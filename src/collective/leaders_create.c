// SPDX-License-Identifier: BSD-3-Clause
// How leaders are made and freed: their stages, and the memory that a transport
// is given. What they do is in leaders.c.
#include <stdlib.h>
#include <string.h>

#include "collective/leaders_state.h"
#include "core/error.h"
#include "core/park.h"
#include "numeric/record.h"

#define CACHE_LINE_BYTES 64

static size_t round_up(size_t bytes)
{
    return (bytes + CACHE_LINE_BYTES - 1) / CACHE_LINE_BYTES * CACHE_LINE_BYTES;
}

static tally_status_t mailbox_create(const struct leaders *leaders,
                                     size_t send_count, size_t receive_count,
                                     struct mailbox **out)
{
    size_t stages = (size_t)leaders->stage_count;
    size_t requests = SEND_BUFFERS * send_count + receive_count;
    size_t messages = SEND_BUFFERS * stages + receive_count;
    size_t before = round_up(sizeof(struct mailbox)) +
                    round_up(requests * sizeof(tally_request_t));
    size_t bytes = before + messages * leaders->message_stride;
    unsigned char *memory = aligned_alloc(CACHE_LINE_BYTES, bytes);

    if (memory == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for %zu messages",
                         messages);
    memset(memory, 0, bytes); // requests: complete
    struct mailbox *mailbox = (struct mailbox *)memory;
    mailbox->send_count = send_count;
    mailbox->receive_count = receive_count;
    mailbox->sends =
        (tally_request_t *)(memory + round_up(sizeof(struct mailbox)));
    mailbox->receives = mailbox->sends + SEND_BUFFERS * send_count;
    mailbox->sent = memory + before;
    mailbox->received =
        mailbox->sent + SEND_BUFFERS * stages * leaders->message_stride;
    *out = mailbox;
    return TALLY_OK;
}

// From indices of leaders to ranks of the group.
static void peers_name(int32_t *peers, int32_t count,
                       const struct topology *topology)
{
    for (int32_t i = 0; i < count; i++)
        peers[i] = topology->leader_of[peers[i]];
}

static tally_status_t stages_make(struct leaders *leaders,
                                  const struct schedule_plan *plan,
                                  const struct topology *topology)
{
    size_t sends = 0;
    size_t receives = 0;

    for (int32_t i = 0; i < plan->stages; i++) {
        struct stage *stage = &leaders->stages[i];
        struct schedule_step *step = &stage->step;

        schedule_step(plan, topology->node, i, step);
        peers_name(step->send_to, step->send_count, topology);
        peers_name(step->receive_from, step->receive_count, topology);
        stage->first_send = sends;
        stage->first_receive = receives;
        sends += (size_t)step->send_count;
        receives += (size_t)step->receive_count;
    }
    return mailbox_create(leaders, sends, receives, &leaders->mailbox);
}

static tally_status_t limits_check(const struct leaders *leaders,
                                   const struct topology *topology)
{
    if (topology->size > 1 << SENDER_BITS)
        return core_fail(TALLY_ERR_INVALID,
                         "a group of %d ranks; messages name at most %d",
                         (int)topology->size, 1 << SENDER_BITS);
    if (leaders->ops->message_max < leaders->message_bytes)
        return core_fail(TALLY_ERR_TRANSPORT,
                         "%s sends at most %zu bytes, %u records and %u maxima "
                         "need %u",
                         leaders->ops->name, leaders->ops->message_max,
                         leaders->records, leaders->max_lanes,
                         leaders->message_bytes);
    return TALLY_OK;
}

tally_status_t leaders_create(const struct allreduce_params *params,
                              struct leaders **out)
{
    const struct topology *topology = params->topology;
    const struct schedule_plan *plan = params->plan;
    struct schedule_plan found;
    struct leaders *leaders;
    tally_status_t status;

    if (plan == NULL) {
        schedule_plan(topology->node_count, params->radix,
                      schedule_costs_measured(params->crowded), &found);
        plan = &found;
    }
    assert(plan->leaders == topology->node_count);
    leaders = calloc(1, sizeof(*leaders) +
                            (size_t)plan->stages * sizeof(struct stage));
    if (leaders == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for %d stages",
                         (int)plan->stages);
    leaders->links = params->links;
    leaders->ops = links_ops(params->links);
    leaders->transport = links_transport(params->links);
    leaders->rank = topology->rank;
    leaders->tag_space = params->tag_space;
    leaders->connecting = links_are_real(params->links);
    leaders->records = params->records;
    leaders->max_lanes = params->max_lanes;
    leaders->message_bytes =
        (uint32_t)(sizeof(struct message) +
                   params->records * sizeof(struct numeric_record) +
                   params->max_lanes * sizeof(int64_t));
    leaders->message_stride = round_up(leaders->message_bytes);
    leaders->stage_count = plan->stages;
    leaders->stage = plan->stages;
    leaders->failed = -1;
    status = limits_check(leaders, topology);
    if (status == TALLY_OK)
        status = stages_make(leaders, plan, topology);
    if (status != TALLY_OK) {
        leaders_free(leaders);
        return status;
    }
    *out = leaders;
    return TALLY_OK;
}

static bool any_pending(const tally_request_t *requests, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (requests[i].status == TALLY_NOT_YET)
            return true;
    return false;
}

void leaders_free(struct leaders *leaders)
{
    if (leaders == NULL)
        return;
    struct mailbox *mailbox = leaders->mailbox;
    if (mailbox == NULL)
        goto free_leaders;
    bool may = park_call_begins();
    for (size_t i = 0; may && i < mailbox->receive_count; i++)
        if (mailbox->receives[i].status == TALLY_NOT_YET)
            leaders->ops->cancel(leaders->transport, &mailbox->receives[i]);
    if (may)
        park_call_ends();
    if (any_pending(mailbox->receives, mailbox->receive_count) ||
        any_pending(mailbox->sends, SEND_BUFFERS * mailbox->send_count))
        links_keep_take(leaders->links, &mailbox->kept);
    else
        free(mailbox);
free_leaders:
    free(leaders);
}
