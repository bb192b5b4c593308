// SPDX-License-Identifier: BSD-3-Clause
// What the provider says, kept until the loop asks. Of what comes several times
// the latest is told, so nothing grows.
#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "quorum/object.h"

void events_seen(void *context, const struct quorum_member *member)
{
    struct quorum *quorum = context;

    if (member->peer >= quorum->params.peers ||
        member->address_bytes > QUORUM_ADDRESS_MAX)
        return;
    if (member->peer == quorum->params.peer) {
        if (member->incarnation > quorum->incarnation)
            events_fenced(context, member->incarnation);
        return;
    }
    pthread_mutex_lock(&quorum->lock);
    struct object_peer *peer = &quorum->peers[member->peer];
    bool is_known = peer->there && peer->incarnation == member->incarnation;
    if (!is_known && member->incarnation >= peer->incarnation) {
        peer->incarnation = member->incarnation;
        peer->there = true;
        peer->is_new = true;
        peer->address_bytes = member->address_bytes;
        if (member->address_bytes > 0)
            memcpy(peer->address, member->address, member->address_bytes);
    }
    pthread_mutex_unlock(&quorum->lock);
}

void events_gone(void *context, uint16_t number)
{
    struct quorum *quorum = context;

    if (number >= quorum->params.peers)
        return;
    pthread_mutex_lock(&quorum->lock);
    struct object_peer *peer = &quorum->peers[number];
    if (peer->there) {
        peer->there = false;
        peer->is_new = true;
    }
    pthread_mutex_unlock(&quorum->lock);
}

void events_fenced(void *context, uint64_t incarnation)
{
    struct quorum *quorum = context;

    pthread_mutex_lock(&quorum->lock);
    if (quorum->fenced == 0) {
        quorum->fenced = incarnation;
        quorum->fenced_is_new = true;
    }
    pthread_mutex_unlock(&quorum->lock);
}

void events_force(void *context, uint32_t lineage)
{
    struct quorum *quorum = context;

    pthread_mutex_lock(&quorum->lock);
    if (quorum->ends != lineage) {
        quorum->ends = lineage;
        quorum->ends_is_new = true;
    }
    pthread_mutex_unlock(&quorum->lock);
}

void events_trouble(struct quorum *quorum, tally_status_t status)
{
    pthread_mutex_lock(&quorum->lock);
    if ((status == TALLY_OK) != (quorum->trouble == TALLY_OK)) {
        quorum->trouble_is_new = true;
        snprintf(quorum->trouble_sentence, sizeof(quorum->trouble_sentence),
                 "%s", status == TALLY_OK ? "" : core_error_text());
    }
    quorum->trouble = status;
    pthread_mutex_unlock(&quorum->lock);
}

static void tell_sentence(struct quorum *quorum, struct quorum_event *event,
                          const char *sentence)
{
    snprintf(quorum->told_sentence, sizeof(quorum->told_sentence), "%s",
             sentence);
    event->sentence = quorum->told_sentence;
}

static void tell_peer(struct quorum *quorum, uint16_t number,
                      struct quorum_event *event)
{
    struct object_peer *peer = &quorum->peers[number];

    peer->is_new = false;
    memcpy(quorum->told_address, peer->address, peer->address_bytes);
    *event = (struct quorum_event){
        .kind = peer->there ? QUORUM_SEEN : QUORUM_GONE,
        .member = {number, peer->incarnation, quorum->told_address,
                   peer->address_bytes},
    };
}

static bool next_peer(struct quorum *quorum, struct quorum_event *event)
{
    for (uint16_t number = 0; number < quorum->params.peers; number++)
        if (quorum->peers[number].is_new) {
            tell_peer(quorum, number, event);
            return true;
        }
    return false;
}

static bool next_event(struct quorum *quorum, struct quorum_event *event)
{
    if (quorum->fenced_is_new) {
        quorum->fenced_is_new = false;
        *event = (struct quorum_event){
            .kind = QUORUM_FENCED,
            .member = {.peer = quorum->params.peer,
                       .incarnation = quorum->fenced},
        };
        return true;
    }
    if (next_peer(quorum, event))
        return true;
    if (quorum->record_is_new) {
        quorum->record_is_new = false;
        *event = (struct quorum_event){.kind = QUORUM_LINEAGE,
                                       .record = quorum->record};
        return true;
    }
    if (quorum->ends_is_new) {
        quorum->ends_is_new = false;
        *event =
            (struct quorum_event){.kind = QUORUM_FORCE, .ends = quorum->ends};
        return true;
    }
    if (quorum->answered.number != 0) {
        *event = (struct quorum_event){.kind = QUORUM_ANSWER,
                                       .record = quorum->answer_record,
                                       .request = quorum->answered.number,
                                       .status = quorum->answer};
        tell_sentence(quorum, event, quorum->answer_sentence);
        quorum->answered.number = 0;
        return true;
    }
    if (quorum->trouble_is_new) {
        quorum->trouble_is_new = false;
        *event = (struct quorum_event){.kind = QUORUM_PROVIDER,
                                       .status = quorum->trouble};
        tell_sentence(quorum, event, quorum->trouble_sentence);
        return true;
    }
    return false;
}

bool quorum_next(struct quorum *quorum, struct quorum_event *event)
{
    pthread_mutex_lock(&quorum->lock);
    bool found = next_event(quorum, event);
    pthread_mutex_unlock(&quorum->lock);
    return found;
}
