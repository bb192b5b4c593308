// SPDX-License-Identifier: BSD-3-Clause
// The register of lineages and of the published checkpoint: each change is a
// compare-and-swap on what was read. What a swap lost to is read, and thought
// about again; so is one of which the answer was lost.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "quorum/object.h"

// Before any lineage is forced nothing is in the register.
#define FIRST_LINEAGE 1
// Reads and swaps for one request, before it is given up.
#define TRIES_MAX 8
// One after the other.
#define FAILURES_MAX 3

void register_value(void *context, const struct quorum_value *value)
{
    struct quorum *quorum = context;
    struct quorum_record record;
    struct content_author author;

    if (value->revision == quorum->value.revision)
        return;
    quorum->value = *value;
    if (!content_record_decode(value, quorum->job, &record, &author)) {
        if (value->revision != 0)
            core_log(quorum->params.log, TALLY_LOG_WARN,
                     "membership: the register holds a lineage of another job "
                     "or version");
        return;
    }
    pthread_mutex_lock(&quorum->lock);
    quorum->record = record;
    // Of the first lineage there is no more than its checkpoint.
    quorum->record_is_new = record.position.epoch.lineage > FIRST_LINEAGE;
    pthread_mutex_unlock(&quorum->lock);
}

static tally_status_t forbids_lineage(const struct object_request *request,
                                      const struct quorum_record *there,
                                      struct quorum_record *next)
{
    const struct replica_position *position = &request->wanted.position;
    uint32_t lineage = there->position.epoch.lineage;

    if (lineage + 1 != request->lineage)
        return core_fail(TALLY_ERR_MISMATCH,
                         "the register holds lineage %" PRIu32
                         ": lineage %" PRIu32 " does not follow it",
                         lineage, request->lineage);
    if (there->published.index > position->group.index)
        return core_fail(TALLY_ERR_MISMATCH,
                         "the checkpoint of index %" PRIu64
                         " is published: no lineage begins below it, at "
                         "%" PRIu64,
                         there->published.index, position->group.index);
    *next = (struct quorum_record){*position, there->published};
    return TALLY_OK;
}

static tally_status_t forbids_checkpoint(const struct object_request *request,
                                         const struct quorum_record *there,
                                         struct quorum_record *next)
{
    uint32_t lineage = there->position.epoch.lineage;
    uint64_t index = request->wanted.published.index;

    if (lineage != request->lineage)
        return core_fail(TALLY_ERR_MISMATCH,
                         "the register holds lineage %" PRIu32
                         ": no checkpoint of lineage %" PRIu32 " is published",
                         lineage, request->lineage);
    if (there->published.index >= index)
        return core_fail(TALLY_ERR_MISMATCH,
                         "the checkpoint of index %" PRIu64
                         " is published: that of %" PRIu64 " is not after it",
                         there->published.index, index);
    *next = (struct quorum_record){there->position, request->wanted.published};
    return TALLY_OK;
}

// By another replica, that stored the same state.
static bool is_published(const struct object_request *request,
                         const struct quorum_record *there)
{
    const struct replica_state *wanted = &request->wanted.published;

    return request->kind == REQUEST_PUBLISH &&
           there->position.epoch.lineage == request->lineage &&
           there->published.index == wanted->index &&
           there->published.digest == wanted->digest;
}

// What is there. Errors: MISMATCH.
static tally_status_t take_there(const struct quorum *quorum,
                                 struct quorum_record *there,
                                 struct content_author *author)
{
    *author = (struct content_author){0};
    *there = (struct quorum_record){0};
    // As long as no lineage was forced; an epoch on the wire has acceptors.
    there->position.epoch.lineage = FIRST_LINEAGE;
    there->position.epoch.acceptor_count = 1;
    if (quorum->value.revision == 0 ||
        content_record_decode(&quorum->value, quorum->job, there, author))
        return TALLY_OK;
    return core_fail(TALLY_ERR_MISMATCH,
                     "the register holds a lineage of another job or version");
}

static tally_status_t forbids(const struct object_request *request,
                              const struct quorum_record *there,
                              struct quorum_record *next)
{
    return request->kind == REQUEST_PUBLISH
               ? forbids_checkpoint(request, there, next)
               : forbids_lineage(request, there, next);
}

// From what is known to be there. OK: it is done. NOT_YET: read, and try again.
static tally_status_t try_once(struct quorum *quorum,
                               const struct object_request *request,
                               struct quorum_record *there)
{
    const struct content_author self = {quorum->params.peer,
                                        quorum->incarnation, request->number};
    struct content_author author;
    struct quorum_record next;
    struct quorum_value value = {.revision = quorum->value.revision};
    tally_status_t status = take_there(quorum, there, &author);

    if (status != TALLY_OK || request->kind == REQUEST_READ)
        return status;
    if (author.peer == self.peer && author.incarnation == self.incarnation &&
        author.request == self.request)
        return TALLY_OK;
    if (is_published(request, there))
        return TALLY_OK;
    status = forbids(request, there, &next);
    if (status != TALLY_OK)
        return status;
    content_record_encode(&next, &self, quorum->job, &value);
    // That it was written, and what was, is seen by reading.
    (void)quorum->ops->propose(quorum->provider, OBJECT_CALL_MS, &value);
    return TALLY_NOT_YET;
}

static tally_status_t settle(struct quorum *quorum,
                             const struct object_request *request,
                             struct quorum_record *there)
{
    int failures = 0;

    for (int i = 0; i < TRIES_MAX && failures < FAILURES_MAX; i++) {
        tally_status_t status =
            quorum->ops->read(quorum->provider, OBJECT_CALL_MS);
        if (status != TALLY_OK) {
            failures++;
            continue;
        }
        failures = 0;
        status = try_once(quorum, request, there);
        if (status != TALLY_NOT_YET)
            return status;
    }
    return core_fail_within(TALLY_ERR_TIMEOUT,
                            "the register of lineages did not answer: ");
}

void register_serve(struct quorum *quorum)
{
    struct quorum_record there = {0};

    pthread_mutex_lock(&quorum->lock);
    struct object_request request = quorum->request;
    pthread_mutex_unlock(&quorum->lock);
    if (request.number == 0)
        return;
    tally_status_t status = settle(quorum, &request, &there);
    pthread_mutex_lock(&quorum->lock);
    quorum->request.number = 0;
    quorum->answered = request;
    quorum->answer = status;
    quorum->answer_record = there;
    snprintf(quorum->answer_sentence, sizeof(quorum->answer_sentence), "%s",
             status == TALLY_OK ? "" : core_error_text());
    pthread_mutex_unlock(&quorum->lock);
}

static tally_status_t begin(struct quorum *quorum,
                            const struct object_request *wanted,
                            uint64_t *number)
{
    const uint64_t one = 1;
    tally_status_t status = TALLY_OK;

    if (!quorum->ops->has_register)
        return core_fail(
            TALLY_ERR_UNSUPPORTED,
            "TALLY_QUORUM=%s has no register of lineages: the job stays "
            "stopped. Continue the processes that stopped, or end all and "
            "start "
            "them from the newest checkpoint, or use TALLY_QUORUM=etcd",
            quorum->ops->name);
    pthread_mutex_lock(&quorum->lock);
    if (quorum->request.number != 0 || quorum->answered.number != 0) {
        status = core_fail(TALLY_ERR_BUSY,
                           "the register has a request that is not answered");
    } else {
        quorum->request = *wanted;
        quorum->request.number = ++quorum->next_request;
        *number = quorum->next_request;
    }
    pthread_mutex_unlock(&quorum->lock);
    if (status == TALLY_OK && write(quorum->wake_fd, &one, sizeof(one)) < 0)
        return TALLY_OK; // the thread looks by itself, too
    return status;
}

tally_status_t quorum_register_read(struct quorum *quorum, uint64_t *request)
{
    const struct object_request wanted = {.kind = REQUEST_READ};

    return begin(quorum, &wanted, request);
}

tally_status_t quorum_lineage_swap(struct quorum *quorum,
                                   const struct replica_position *position,
                                   uint64_t *request)
{
    const struct object_request wanted = {
        .kind = REQUEST_LINEAGE,
        .lineage = position->epoch.lineage,
        .wanted.position = *position,
    };

    return begin(quorum, &wanted, request);
}

tally_status_t quorum_checkpoint_publish(struct quorum *quorum,
                                         uint32_t lineage,
                                         struct replica_state state,
                                         uint64_t *request)
{
    const struct object_request wanted = {
        .kind = REQUEST_PUBLISH,
        .lineage = lineage,
        .wanted.published = state,
    };

    return begin(quorum, &wanted, request);
}
