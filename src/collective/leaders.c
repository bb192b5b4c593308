// SPDX-License-Identifier: BSD-3-Clause
// See leaders.h.
#include "collective/leaders.h"

#include <inttypes.h>
#include <string.h>

#include "collective/leaders_state.h"
#include "core/error.h"
#include "numeric/record.h"
#include "transport/descriptors.h"

static uint64_t tag_make(const struct leaders *leaders, int32_t stage,
                         int32_t sender)
{
    uint64_t sequence = leaders->sequence & ((1u << SEQUENCE_BITS) - 1);

    assert(stage < 1 << STAGE_BITS && sender < 1 << SENDER_BITS);
    return (uint64_t)leaders->tag_space
               << (SEQUENCE_BITS + STAGE_BITS + SENDER_BITS) |
           sequence << (STAGE_BITS + SENDER_BITS) |
           (uint64_t)stage << SENDER_BITS | (uint64_t)sender;
}

// ------------------------------------------------------------------- messages

// `what` ends in "to" or "from".
static tally_status_t peer_fail(struct leaders *leaders, tally_status_t status,
                                int32_t peer, const char *what, const char *why)
{
    leaders->failed = peer;
    return core_fail(status,
                     "%s rank %d of the group (world rank %d), stage %d of "
                     "reduction %" PRIu64 ": %s",
                     what, (int)peer,
                     (int)links_world_rank(leaders->links, peer),
                     (int)leaders->stage, leaders->sequence, why);
}

static tally_request_t *send_requests(const struct leaders *leaders,
                                      int32_t stage)
{
    const struct mailbox *mailbox = leaders->mailbox;
    size_t buffer = leaders->sequence % SEND_BUFFERS;

    return mailbox->sends + buffer * mailbox->send_count +
           leaders->stages[stage].first_send;
}

static struct message *send_message(const struct leaders *leaders)
{
    size_t buffer = leaders->sequence % SEND_BUFFERS;
    size_t index =
        buffer * (size_t)leaders->stage_count + (size_t)leaders->stage;

    return (struct message *)(leaders->mailbox->sent +
                              index * leaders->message_stride);
}

// OK: the stage's sends (of this reduction, or of the last one that used their
// buffer) are complete.
static tally_status_t sends_check(struct leaders *leaders, int32_t index)
{
    const struct schedule_step *step = &leaders->stages[index].step;
    const tally_request_t *requests = send_requests(leaders, index);
    tally_status_t status = TALLY_OK;

    for (int32_t i = 0; i < step->send_count; i++) {
        if (requests[i].status == TALLY_NOT_YET)
            status = TALLY_NOT_YET;
        else if (requests[i].status != TALLY_OK)
            return peer_fail(leaders, requests[i].status, step->send_to[i],
                             "message to", "the transport could not send it");
    }
    return status;
}

static tally_status_t message_post(struct leaders *leaders, int32_t peer,
                                   tally_request_t *request)
{
    tally_endpoint_t *endpoint;
    tally_status_t status;

    status = links_endpoint(leaders->links, peer, &endpoint);
    if (status != TALLY_OK)
        return peer_fail(leaders, status, peer, "connection to",
                         core_error_text());
    request->status = TALLY_NOT_YET;
    status = leaders->ops->tsend(
        endpoint, tag_make(leaders, leaders->stage, leaders->rank),
        send_message(leaders), leaders->message_bytes, request);
    if (status == TALLY_OK)
        return TALLY_OK;
    request->status = TALLY_OK; // nothing was posted
    return peer_fail(leaders, status, peer, "message to", core_error_text());
}

// Transports connect at the first message.
static tally_status_t message_send(struct leaders *leaders, int32_t peer,
                                   tally_request_t *request)
{
    struct descriptors before;

    if (!leaders->connecting)
        return message_post(leaders, peer, request);
    descriptors_note(&before);
    tally_status_t status = message_post(leaders, peer, request);
    descriptors_seal(&before);
    return status;
}

// All partners have been heard, so all connections that came are there.
static void connecting_end(struct leaders *leaders)
{
    struct descriptors before;

    if (!leaders->connecting)
        return;
    descriptors_note(&before);
    descriptors_seal(&before);
    leaders->connecting = false;
}

static tally_status_t stage_send(struct leaders *leaders, const int64_t *total)
{
    const struct schedule_step *step = &leaders->stages[leaders->stage].step;
    tally_request_t *requests = send_requests(leaders, leaders->stage);
    struct message *message = send_message(leaders);
    tally_status_t status = sends_check(leaders, leaders->stage);

    if (status != TALLY_OK)
        return status;
    message->magic = MESSAGE_MAGIC;
    message->sender = (uint32_t)leaders->rank;
    message->sequence = leaders->sequence;
    memcpy(message->lanes, total, leaders->message_bytes - sizeof(*message));
    for (int32_t i = 0; i < step->send_count; i++) {
        status = message_send(leaders, step->send_to[i], &requests[i]);
        if (status != TALLY_OK)
            return status;
    }
    leaders->sent = true;
    leaders->missing = (1u << step->receive_count) - 1;
    return TALLY_OK;
}

static tally_status_t message_check(struct leaders *leaders, int32_t peer,
                                    const tally_request_t *request,
                                    const struct message *message)
{
    const char *wrong = NULL;

    if (request->status != TALLY_OK)
        return peer_fail(leaders, request->status, peer, "message from",
                         "the transport could not receive it");
    if (request->bytes != leaders->message_bytes)
        wrong = "its length is wrong";
    else if (message->magic != MESSAGE_MAGIC)
        wrong = "it is no message of this version of Tally";
    else if (message->sender != (uint32_t)peer)
        wrong = "it names another sender";
    else if (message->sequence != leaders->sequence)
        wrong = "it is of another reduction";
    if (wrong == NULL)
        return TALLY_OK;
    return peer_fail(leaders, TALLY_ERR_TRANSPORT, peer, "message from", wrong);
}

static void message_add(const struct leaders *leaders,
                        const struct message *message, int64_t *total)
{
    const int64_t *lanes = message->lanes;

    for (uint32_t i = 0; i < leaders->records; i++) {
        numeric_record_add((struct numeric_record *)total,
                           (const struct numeric_record *)lanes);
        total += NUMERIC_LANES;
        lanes += NUMERIC_LANES;
    }
    for (uint32_t i = 0; i < leaders->max_lanes; i++)
        total[i] = lanes[i] > total[i] ? lanes[i] : total[i];
}

static tally_status_t stage_receive(struct leaders *leaders, int64_t *total)
{
    const struct stage *stage = &leaders->stages[leaders->stage];
    const struct mailbox *mailbox = leaders->mailbox;

    for (int32_t i = 0; i < stage->step.receive_count; i++) {
        size_t index = stage->first_receive + (size_t)i;
        const tally_request_t *request = &mailbox->receives[index];
        const struct message *message =
            (const struct message *)(mailbox->received +
                                     index * leaders->message_stride);

        if ((leaders->missing & 1u << i) == 0 ||
            request->status == TALLY_NOT_YET)
            continue;
        tally_status_t status = message_check(
            leaders, stage->step.receive_from[i], request, message);
        if (status != TALLY_OK)
            return status;
        if (stage->step.replaces)
            memcpy(total, message->lanes,
                   leaders->message_bytes - sizeof(*message));
        else
            message_add(leaders, message, total);
        leaders->missing &= ~(1u << i);
    }
    return leaders->missing == 0 ? TALLY_OK : TALLY_NOT_YET;
}

tally_status_t leaders_settle(struct leaders *leaders)
{
    tally_status_t status = TALLY_OK;

    for (int32_t i = 0; status == TALLY_OK && i < leaders->stage_count; i++)
        status = sends_check(leaders, i);
    return status;
}

// A send that failed is told while its answer is still awaited.
static tally_status_t sends_watch(struct leaders *leaders)
{
    int32_t end = leaders->stage + (leaders->sent ? 1 : 0);

    while (leaders->confirmed < end) {
        tally_status_t status = sends_check(leaders, leaders->confirmed);

        if (status != TALLY_OK)
            return status;
        leaders->confirmed++;
    }
    return TALLY_NOT_YET;
}

// ------------------------------------------------------------------- reduction

void leaders_start(struct leaders *leaders, uint64_t sequence)
{
    struct mailbox *mailbox = leaders->mailbox;

    assert(sequence == leaders->sequence + 1);
    assert(leaders->stage == leaders->stage_count);
    leaders->sequence = sequence;
    leaders->stage = 0;
    leaders->sent = false;
    leaders->confirmed = 0;
    for (int32_t i = 0; i < leaders->stage_count; i++) {
        const struct stage *stage = &leaders->stages[i];

        for (int32_t j = 0; j < stage->step.receive_count; j++) {
            size_t index = stage->first_receive + (size_t)j;
            int32_t peer = stage->step.receive_from[j];
            tally_request_t *request = &mailbox->receives[index];

            request->status = TALLY_NOT_YET;
            leaders->failure = leaders->ops->trecv(
                leaders->transport, tag_make(leaders, i, peer),
                mailbox->received + index * leaders->message_stride,
                leaders->message_bytes, request);
            if (leaders->failure == TALLY_OK)
                continue;
            request->status = TALLY_OK; // nothing was posted
            leaders->failure = peer_fail(leaders, leaders->failure, peer,
                                         "message from", core_error_text());
            return;
        }
    }
}

tally_status_t leaders_progress(struct leaders *leaders, int64_t *total)
{
    tally_status_t status = leaders->failure;

    while (status == TALLY_OK && leaders->stage < leaders->stage_count) {
        if (!leaders->sent)
            status = stage_send(leaders, total);
        if (status == TALLY_OK)
            status = stage_receive(leaders, total);
        if (status != TALLY_OK)
            break;
        leaders->stage++;
        leaders->sent = false;
    }
    if (status == TALLY_OK)
        connecting_end(leaders);
    return status == TALLY_NOT_YET ? sends_watch(leaders) : status;
}

static int32_t lowest(int32_t a, int32_t b)
{
    return a < 0 || b < a ? b : a;
}

int32_t leaders_awaited(const struct leaders *leaders)
{
    int32_t awaited = leaders->failed;

    if (awaited >= 0 || leaders->stage == leaders->stage_count)
        return awaited;
    const struct stage *stage = &leaders->stages[leaders->stage];
    const tally_request_t *requests = send_requests(leaders, leaders->stage);
    for (int32_t i = 0; i < stage->step.receive_count; i++)
        if (leaders->sent && (leaders->missing & 1u << i) != 0)
            awaited = lowest(awaited, stage->step.receive_from[i]);
    for (int32_t i = 0; i < stage->step.send_count; i++)
        if (!leaders->sent && requests[i].status == TALLY_NOT_YET)
            awaited = lowest(awaited, stage->step.send_to[i]);
    return awaited;
}
