// SPDX-License-Identifier: BSD-3-Clause
// One rank's place in the rendezvous' tree: the state that its rooms share.
//
// A thread of its own (loop.c) holds everything but `shared`. It begins as a
// guest of the root, which checks it and says who its parent is (join.c,
// admit.c); when all ranks are in the tree it is up (presence.c). Then it
// relays exchanges (gather.c) and news of ranks that left or died (news.c).
#ifndef BOOTSTRAP_TREE_MEMBER_H
#define BOOTSTRAP_TREE_MEMBER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "bootstrap/bootstrap.h"
#include "bootstrap/link/connection.h"
#include "core/park.h"

#define MEMBER_SENTENCE_BYTES 512
// What the root's verdict on a timeout may take to arrive, and what a last word
// may take to be sent.
#define MEMBER_VERDICT_US ((int64_t)2000000)
#define MEMBER_LINGER_US ((int64_t)1000000)

// What the other side of a connection is to us.
enum member_role {
    ROLE_GUEST,    // has not been admitted
    ROLE_WAITING,  // of the root: its parent has not come yet
    ROLE_CHILD,    // in the tree, below
    ROLE_JOINING,  // we are the guest
    ROLE_PARENT,   // in the tree, above
    ROLE_FINISHED, // to be closed without further notice
};

enum member_state {
    MEMBER_COMING_UP,
    MEMBER_UP,
    MEMBER_FAILED,
};

// What the caller's thread asks for, and is told. Under `lock`.
struct member_shared {
    pthread_mutex_t lock;
    pthread_cond_t changed; // CLOCK_MONOTONIC
    enum member_state state;
    tally_status_t status; // why it failed
    char sentence[MEMBER_SENTENCE_BYTES];
    bool closing;
    struct member_request *request; // the caller's, or NULL
};

// One exchange of the caller; lives on its stack while it waits.
struct member_request {
    struct wire_exchange_id id;
    uint32_t count;
    const void *part;
    uint32_t bytes;
    bool taken; // the thread has a copy of the part
    bool done;
    tally_status_t status;
    void *result; // [count][bytes]
    char sentence[MEMBER_SENTENCE_BYTES];
    // Where the deadline passed: the ranks that had come.
    int32_t *present; // [count]
    uint32_t present_count;
};

// Below: how a guest finds its host, at first the root.
struct member_join {
    struct connection *link; // NULL: between two attempts
    bool at_root;
    bool sent_away;             // it was there, and told us to come again
    struct socket_place parent; // once redirected
    int32_t candidate;          // the next port
    int32_t tries;              // without a pause
    int32_t rounds;             // pauses made
    int32_t returns;            // from parents that were not there, to the root
    int64_t pause_us;
    int64_t retry_at_us;             // INT64_MAX: not between two attempts
    int64_t give_up_at_us;           // on a host that does not challenge us
    char place[320];                 // for messages
    char why[MEMBER_SENTENCE_BYTES]; // why the last attempt failed
};

// Of the root: who has come.
struct member_arrival {
    bool came;    // said hello, so that its children may go there
    bool in_tree; // its parent has it
    struct socket_place place;
    struct connection *waiting; // for its parent to come
};

struct gather;

struct member {
    struct exchange base;
    // Set once.
    struct identity identity;
    int32_t rank, size, radix;
    int64_t timeout_us;
    uint32_t abi;
    char *version, *settings;
    void *secret; // NULL: none
    size_t secret_bytes;
    const struct core_log *log;
    struct health *health;
    struct park_thread thread;
    int wake_fd;             // -1: nobody wakes it
    struct network *network; // owned

    struct member_shared shared;
    int32_t *missing; // the caller's: of the last exchange; [world size]
    int32_t missing_count;

    // The thread's own.
    struct socket_place own; // of a connection to another rank; 0: none yet
    int listen_fd;           // -1: none
    uint16_t port;
    enum member_state state; // as shared.state
    int64_t deadline_us;     // for coming up
    int64_t patience_us;     // the timeout that set it
    bool finishing;          // says its last words
    int64_t finish_at_us;
    struct connection *connections;
    int32_t connection_count, connection_most; // at once
    bool crowded;                              // the listener is not heard
    struct connection *parent;                 // NULL: none (yet, or any more)
    struct member_join join;
    struct member_arrival *arrivals; // of the root: [size]
    int32_t in_tree;                 // of the root: how many are
    int32_t waiting;                 // of the root: how many do
    int64_t appointment_us;          // of the root: the last one that it gave
    struct gather *gathers;
};

static inline bool member_is_root(const struct member *member)
{
    return member->rank == 0;
}

// Takes the network, whatever comes of it. Errors: MEMORY, CONFIG, UNSUPPORTED.
tally_status_t member_create(const struct bootstrap_params *params,
                             struct network *network, struct member **out);
void member_free(struct member *member);

// Adds a connection to the loop. Takes the descriptor; NULL if that fails.
struct connection *member_connection_add(struct member *member, int fd,
                                         enum member_role role);

// Notes by which address a rank is reached that has come to belong to us; not
// the loopback's, if there is another.
void member_note_own(struct member *member, const struct connection *rank);

// The rendezvous has failed, here and below: everybody who is connected is told
// the sentence. Only the first failure counts.
void member_fail(struct member *member, tally_status_t status,
                 const char *format, ...) __attribute__((format(printf, 3, 4)));

// Tells one connection of it, afterwards.
void member_say_failure(struct member *member, struct connection *to);

#endif
