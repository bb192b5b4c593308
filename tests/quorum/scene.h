// SPDX-License-Identifier: BSD-3-Clause
// What the tests of membership share: processes of a job as objects, each with
// settings of its own, over any provider; and waiting for what they are told.
#ifndef TESTS_QUORUM_SCENE_H
#define TESTS_QUORUM_SCENE_H

#include <check.h>

#include "quorum/quorum.h"

#define SCENE_PEERS 3
#define SCENE_TIMEOUT_US 60000000

// The providers, in the order of loop tests.
enum {
    SCENE_FOLDER,
    SCENE_STATIC,
    SCENE_CALLBACK,
    SCENE_ETCD,
    SCENE_PROVIDERS
};

// What a provider can do.
struct scene_provider {
    const char *name;
    bool tells_gone;
    bool tells_fenced;
    bool keeps_jobs_apart;
    bool has_register;
};

extern const struct scene_provider scene_providers[SCENE_PROVIDERS];

// Of all objects that are opened from here on. A checked fixture: it starts
// what the provider needs. Returns false if that is not installed.
bool scene_open(int provider);
void scene_close(void);

// Replaces a setting; NULL: the default again.
void scene_set(const char *name, const char *value);

// The status of opening one, for who expects an error.
tally_status_t scene_try(const char *job, uint16_t peer, struct quorum **out);
// Opened, with its incarnation; not announced.
struct quorum *scene_member(uint16_t peer, uint64_t *incarnation);
// And announced, with an address.
struct quorum *scene_announced(uint16_t peer, const void *address, size_t bytes,
                               uint64_t *incarnation);

// Waits for an event of that kind about that peer; others are passed over.
struct quorum_event scene_await(struct quorum *quorum,
                                enum quorum_event_kind kind, uint16_t peer);

// The status of a request of the register; *sentence: what came with it.
tally_status_t scene_answer(struct quorum *quorum, uint64_t request,
                            char sentence[QUORUM_SENTENCE_BYTES]);

// A port of the loopback that was free a moment ago.
uint16_t scene_free_port(void);

// ------------------------------------------------------------ etcd
// (etcd_server.c)

// False: there is no etcd here. The data is kept between stop and start.
bool etcd_server_start(uint16_t port, uint16_t peer_port, const char *folder);
void etcd_server_kill(void);

// Stops the server, or lets it go on.
void etcd_server_pause(bool pause);

// What is in force, for who opens objects of its own; NULL: as preset.
const char *scene_setting(const char *name);

// Kills the scene's etcd, or starts it again where it was, with its data.
void scene_etcd_restart(bool start);

#endif
