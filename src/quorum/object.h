// SPDX-License-Identifier: BSD-3-Clause
// What stands behind struct quorum: only quorum.c, events.c and register.c
// include this.
#ifndef QUORUM_OBJECT_H
#define QUORUM_OBJECT_H

#include <pthread.h>

#include "core/park.h"
#include "quorum/content.h"

// Of one call of a provider that may wait.
#define OBJECT_CALL_MS 1000

// A peer as it was seen last.
struct object_peer {
    uint64_t incarnation; // 0: never
    bool there;
    bool is_new; // not told yet
    size_t address_bytes;
    uint8_t address[QUORUM_ADDRESS_MAX];
};

enum object_request_kind {
    REQUEST_READ,
    REQUEST_LINEAGE, // begins one, at wanted.position
    REQUEST_PUBLISH, // of wanted.published, in a lineage
};

struct object_request {
    uint64_t number; // 0: none
    enum object_request_kind kind;
    uint32_t lineage;
    struct quorum_record wanted;
};

struct quorum {
    // Set once.
    struct quorum_params params; // borrowed strings are not used after open
    tally_membership_t membership;
    uint64_t job; // digest
    const struct quorum_provider_ops *ops;
    struct quorum_provider *provider;
    void *library; // of dlopen; NULL: none
    struct quorum_host host;
    uint64_t incarnation;
    struct quorum_member self;
    uint8_t self_address[QUORUM_ADDRESS_MAX];
    int wake_fd;
    struct park_thread thread;

    // The thread's.
    bool is_announced;
    struct quorum_value value; // of the register, as seen last

    // Under the lock.
    pthread_mutex_t lock;
    bool stop;
    struct object_peer peers[REPLICA_PEERS_MAX];
    uint64_t fenced; // by that incarnation; 0: not
    bool fenced_is_new;
    struct quorum_record record;
    bool record_is_new;
    uint32_t ends; // the lineage that the operator says is to end; 0: none
    bool ends_is_new;
    uint64_t next_request;
    struct object_request request;
    struct object_request answered; // number 0: there is no answer to tell
    tally_status_t answer;
    struct quorum_record answer_record; // what was there
    char answer_sentence[QUORUM_SENTENCE_BYTES];
    tally_status_t trouble; // OK: the provider can be reached
    bool trouble_is_new;
    char trouble_sentence[QUORUM_SENTENCE_BYTES];

    // What the last event points to.
    uint8_t told_address[QUORUM_ADDRESS_MAX];
    char told_sentence[QUORUM_SENTENCE_BYTES];
};

// ------------------------------------------------------------------- events.c

// The provider's side of quorum_host.
void events_seen(void *context, const struct quorum_member *member);
void events_gone(void *context, uint16_t peer);
void events_fenced(void *context, uint64_t incarnation);
void events_force(void *context, uint32_t lineage);
// Of the calling thread's sentence.
void events_trouble(struct quorum *quorum, tally_status_t status);

// ----------------------------------------------------------------- register.c

void register_value(void *context, const struct quorum_value *value);
// Does what is requested, if anything is; the thread's.
void register_serve(struct quorum *quorum);

#endif
