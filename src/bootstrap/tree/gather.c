// SPDX-License-Identifier: BSD-3-Clause
// Exchanges of any subset of ranks. Parts go up to the root, each node noting
// from where; when all are there the root sends the whole down the same ways.
// The root also knows, when the deadline passes, which parts have come.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bootstrap/tree/rooms.h"
#include "bootstrap/tree/shape.h"

struct gather {
    struct gather *next;
    struct wire_exchange_id id;
    uint32_t count, bytes;                            // ranks; of each part
    bool mine;                                        // our caller takes part
    struct connection *children[BOOTSTRAP_RADIX_MAX]; // those with parts below
    uint32_t child_count;
    // Of the root:
    int64_t deadline_us;
    uint32_t come;
    int32_t *ranks;    // [count], in order of arrival
    uint8_t *parts;    // [count][bytes]
    uint32_t *part_of; // [world size], 1 + the rank's part; 0: not come
};

static bool same_id(const struct wire_exchange_id *a,
                    const struct wire_exchange_id *b)
{
    return a->word[0] == b->word[0] && a->word[1] == b->word[1];
}

static struct gather *find(struct member *member,
                           const struct wire_exchange_id *id)
{
    struct gather *one = member->gathers;

    while (one != NULL && !same_id(&one->id, id))
        one = one->next;
    return one;
}

static void gather_free(struct gather *gather)
{
    free(gather->ranks);
    free(gather->parts);
    free(gather->part_of);
    free(gather);
}

static void remove_gather(struct member *member, struct gather *gather)
{
    struct gather **link = &member->gathers;

    while (*link != gather)
        link = &(*link)->next;
    *link = gather->next;
    gather_free(gather);
}

static struct gather *begin(struct member *member,
                            const struct wire_gather *frame)
{
    struct gather *gather = calloc(1, sizeof(*gather));

    if (gather == NULL)
        return NULL;
    gather->id = frame->id;
    gather->count = frame->count;
    gather->bytes = frame->part.length;
    gather->deadline_us = INT64_MAX;
    if (member_is_root(member)) {
        gather->deadline_us =
            network_now_us(member->network) + member->timeout_us;
        gather->ranks = calloc(frame->count, sizeof(*gather->ranks));
        gather->parts = calloc(frame->count, frame->part.length + 1);
        gather->part_of =
            calloc((size_t)member->size, sizeof(*gather->part_of));
        if (gather->ranks == NULL || gather->parts == NULL ||
            gather->part_of == NULL) {
            gather_free(gather);
            return NULL;
        }
    }
    gather->next = member->gathers;
    member->gathers = gather;
    return gather;
}

// ------------------------------------------------------------------- answers

static void take_present(struct member_request *request,
                         const struct wire_text *present)
{
    for (uint32_t i = 0; i < present->length / 4 && i < request->count; i++)
        request->present[request->present_count++] =
            wire_present_rank(present, i);
}

static void deliver(struct member *member, const struct wire_exchange_id *id,
                    const struct wire_result *result,
                    const struct wire_failure *failure)
{
    struct member_shared *shared = &member->shared;

    pthread_mutex_lock(&shared->lock);
    struct member_request *request = shared->request;
    if (request != NULL && !request->done && same_id(&request->id, id)) {
        size_t bytes = (size_t)request->count * request->bytes;

        request->done = true;
        if (result != NULL && result->parts.length == bytes) {
            memcpy(request->result, result->parts.bytes, bytes);
            request->status = TALLY_OK;
        } else if (failure != NULL) {
            request->status = failure->status;
            snprintf(request->sentence, sizeof(request->sentence), "%.*s",
                     (int)failure->sentence.length, failure->sentence.bytes);
            take_present(request, &failure->present);
        } else {
            request->status = TALLY_ERR_BOOTSTRAP;
            snprintf(request->sentence, sizeof(request->sentence),
                     "an answer of %u bytes came, for %zu",
                     (unsigned)result->parts.length, bytes);
        }
        pthread_cond_broadcast(&shared->changed);
    }
    pthread_mutex_unlock(&shared->lock);
}

// Sends an answer to where parts came from, and forgets the exchange.
static void answer(struct member *member, struct gather *gather,
                   enum wire_type type, const uint8_t *body, size_t bytes)
{
    struct wire_result result;
    struct wire_failure failure;

    for (uint32_t i = 0; i < gather->child_count; i++)
        connection_send(gather->children[i], type, body, bytes);
    if (gather->mine && type == WIRE_RESULT &&
        wire_result_decode(body, bytes, &result))
        deliver(member, &gather->id, &result, NULL);
    else if (gather->mine && type == WIRE_FAILURE &&
             wire_failure_decode(body, bytes, &failure))
        deliver(member, &gather->id, NULL, &failure);
    remove_gather(member, gather);
}

static void answer_failure(struct member *member, struct gather *gather,
                           tally_status_t status, const char *sentence,
                           const struct wire_text *present)
{
    struct wire_failure failure = {
        .id = gather->id,
        .status = status,
        .sentence = {sentence, (uint32_t)strlen(sentence)},
    };

    if (present != NULL)
        failure.present = *present;
    size_t bytes = wire_failure_encode(&failure, NULL, 0);
    uint8_t *body = malloc(bytes);
    if (body == NULL) {
        deliver(member, &gather->id, NULL, &failure);
        remove_gather(member, gather);
        return;
    }
    wire_failure_encode(&failure, body, bytes);
    answer(member, gather, WIRE_FAILURE, body, bytes);
    free(body);
}

void gather_answer(struct member *member, const struct connection_frame *frame)
{
    const uint8_t *body = frame->body;
    size_t bytes = frame->header.bytes;
    enum wire_type type = (enum wire_type)frame->header.type;
    struct wire_exchange_id id = {{0}};
    struct wire_result result;
    struct wire_failure failure;

    if (type == WIRE_RESULT && wire_result_decode(body, bytes, &result))
        id = result.id;
    else if (type == WIRE_FAILURE && wire_failure_decode(body, bytes, &failure))
        id = failure.id;
    struct gather *gather = find(member, &id);
    if (gather != NULL)
        answer(member, gather, type, body, bytes);
}

// --------------------------------------------------------------------- parts

static void root_complete(struct member *member, struct gather *gather)
{
    struct wire_result result = {.id = gather->id};
    size_t each = gather->bytes;
    uint8_t *sorted = malloc((size_t)gather->count * each + 1);
    uint8_t *end = sorted;

    if (sorted == NULL) {
        answer_failure(member, gather, TALLY_ERR_MEMORY,
                       "no memory at rank 0 for an exchange", NULL);
        return;
    }
    for (int32_t rank = 0; rank < member->size; rank++) {
        if (gather->part_of[rank] == 0)
            continue;
        memcpy(end, gather->parts + (gather->part_of[rank] - 1) * each, each);
        end += each;
    }
    result.parts = (struct wire_text){(const char *)sorted,
                                      (uint32_t)(gather->count * each)};
    size_t bytes = wire_result_encode(&result, NULL, 0);
    uint8_t *body = malloc(bytes);
    if (body == NULL) {
        answer_failure(member, gather, TALLY_ERR_MEMORY,
                       "no memory at rank 0 for an exchange", NULL);
    } else {
        wire_result_encode(&result, body, bytes);
        answer(member, gather, WIRE_RESULT, body, bytes);
    }
    free(body);
    free(sorted);
}

static void root_take(struct member *member, struct gather *gather,
                      const struct wire_gather *frame)
{
    char sentence[MEMBER_SENTENCE_BYTES];

    if (frame->count != gather->count || frame->part.length != gather->bytes) {
        snprintf(sentence, sizeof(sentence),
                 "rank %d exchanges %u bytes with %u ranks, rank %d exchanges "
                 "%u bytes with %u",
                 (int)frame->rank, (unsigned)frame->part.length,
                 (unsigned)frame->count, (int)gather->ranks[0],
                 (unsigned)gather->bytes, (unsigned)gather->count);
        answer_failure(member, gather, TALLY_ERR_MISMATCH, sentence, NULL);
        return;
    }
    if (gather->part_of[frame->rank] != 0) {
        snprintf(sentence, sizeof(sentence),
                 "rank %d takes part twice: two groups of the same ranks "
                 "and key",
                 (int)frame->rank);
        answer_failure(member, gather, TALLY_ERR_MISMATCH, sentence, NULL);
        return;
    }
    memcpy(gather->parts + (size_t)gather->come * gather->bytes,
           frame->part.bytes, frame->part.length);
    gather->ranks[gather->come++] = frame->rank;
    gather->part_of[frame->rank] = gather->come;
    if (gather->come == gather->count)
        root_complete(member, gather);
}

static void note_way(struct gather *gather, struct connection *from)
{
    if (from == NULL) {
        gather->mine = true;
        return;
    }
    for (uint32_t i = 0; i < gather->child_count; i++)
        if (gather->children[i] == from)
            return;
    if (gather->child_count < BOOTSTRAP_RADIX_MAX)
        gather->children[gather->child_count++] = from;
}

static void refuse_part(struct member *member, struct connection *from,
                        const struct wire_gather *frame, tally_status_t status,
                        const char *sentence)
{
    struct gather *gather = calloc(1, sizeof(*gather));

    if (gather == NULL)
        return; // the deadline ends it
    gather->id = frame->id;
    gather->next = member->gathers;
    member->gathers = gather;
    note_way(gather, from);
    answer_failure(member, gather, status, sentence, NULL);
}

// One part, from below or (NULL) from our caller; `body` is its frame.
static void take_part(struct member *member, struct connection *from,
                      const struct wire_gather *frame, const uint8_t *body,
                      size_t bytes)
{
    char sentence[MEMBER_SENTENCE_BYTES];

    if (!member_is_root(member) && member->parent == NULL) {
        snprintf(sentence, sizeof(sentence),
                 "rank %d, which relays exchanges, is gone",
                 (int)shape_parent(member->rank, member->radix));
        refuse_part(member, from, frame, TALLY_ERR_PEER, sentence);
        return;
    }
    struct gather *gather = find(member, &frame->id);
    if (gather == NULL)
        gather = begin(member, frame);
    if (gather == NULL) {
        snprintf(sentence, sizeof(sentence),
                 "no memory at rank %d for an exchange", (int)member->rank);
        refuse_part(member, from, frame, TALLY_ERR_MEMORY, sentence);
        return;
    }
    note_way(gather, from);
    if (member_is_root(member))
        root_take(member, gather, frame);
    else
        connection_send(member->parent, WIRE_GATHER, body, bytes);
}

void gather_frame(struct member *member, struct connection *from,
                  const struct connection_frame *frame)
{
    struct wire_gather part;

    if (!wire_gather_decode(frame->body, frame->header.bytes, &part) ||
        part.rank < 0 || part.rank >= member->size || part.count < 1 ||
        part.count > (uint32_t)member->size ||
        (uint64_t)part.count * part.part.length > WIRE_BODY_BYTES_MAX / 2) {
        from->broken = true;
        return;
    }
    take_part(member, from, &part, frame->body, frame->header.bytes);
}

uint8_t *gather_request_encode(const struct member *member,
                               const struct member_request *request,
                               size_t *bytes)
{
    struct wire_gather part = {
        .id = request->id,
        .rank = member->rank,
        .count = request->count,
        .part = {request->part, request->bytes},
    };

    *bytes = wire_gather_encode(&part, NULL, 0);
    uint8_t *body = malloc(*bytes);
    if (body != NULL)
        wire_gather_encode(&part, body, *bytes);
    return body;
}

void gather_request_take(struct member *member, uint8_t *body, size_t bytes)
{
    struct wire_gather part;

    if (wire_gather_decode(body, bytes, &part))
        take_part(member, NULL, &part, body, bytes);
    free(body);
}

// ---------------------------------------------------------------------- ends

void gather_parent_gone(struct member *member, const char *why)
{
    char sentence[MEMBER_SENTENCE_BYTES];

    snprintf(sentence, sizeof(sentence), "rank %d, which relays exchanges, %s",
             (int)shape_parent(member->rank, member->radix), why);
    while (member->gathers != NULL)
        answer_failure(member, member->gathers, TALLY_ERR_PEER, sentence, NULL);
}

void gather_child_gone(struct member *member, struct connection *child)
{
    for (struct gather *one = member->gathers; one != NULL; one = one->next)
        for (uint32_t i = 0; i < one->child_count; i++)
            if (one->children[i] == child)
                one->children[i--] = one->children[--one->child_count];
}

static void deadline_passed(struct member *member, struct gather *gather)
{
    uint8_t *present = calloc(gather->come, 4);
    struct wire_text text = {(const char *)present, gather->come * 4};

    for (uint32_t i = 0; present != NULL && i < gather->come; i++)
        for (int byte = 0; byte < 4; byte++)
            present[i * 4 + (uint32_t)byte] =
                (uint8_t)((uint32_t)gather->ranks[i] >> (8 * byte));
    answer_failure(member, gather, TALLY_ERR_TIMEOUT, "",
                   present != NULL ? &text : NULL);
    free(present);
}

void gather_tick(struct member *member, int64_t now_us)
{
    struct gather *next;

    for (struct gather *one = member->gathers; one != NULL; one = next) {
        next = one->next;
        if (now_us >= one->deadline_us)
            deadline_passed(member, one);
    }
}

int64_t gather_next_us(const struct member *member)
{
    int64_t next = INT64_MAX;

    for (const struct gather *one = member->gathers; one != NULL;
         one = one->next)
        if (one->deadline_us < next)
            next = one->deadline_us;
    return next;
}

void gather_free_all(struct member *member)
{
    while (member->gathers != NULL)
        remove_gather(member, member->gathers);
}
