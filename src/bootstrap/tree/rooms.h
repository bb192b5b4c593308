// SPDX-License-Identifier: BSD-3-Clause
// What the rooms of a member (member.h) offer to its loop and to each other.
// All of it runs in the member's thread.
#ifndef BOOTSTRAP_TREE_ROOMS_H
#define BOOTSTRAP_TREE_ROOMS_H

#include "bootstrap/tree/member.h"

// --- hello.c: what guest and host say first, and its checks
void hello_send(struct member *member, struct connection *host,
                const uint8_t host_nonce[WIRE_NONCE_BYTES]);
// Whether a hello fits this member. If not, the sentence says why; *stranger:
// it is of another job, and no reason for ours to fail.
bool hello_fits(struct member *member, const struct connection *guest,
                const struct connection_frame *frame,
                const struct wire_hello *hello, bool *stranger,
                char sentence[MEMBER_SENTENCE_BYTES]);
// A MAC for the body of an answer to a guest, whose nonce came with its hello.
void hello_answer_mac(struct member *member, enum wire_type type,
                      const uint8_t nonce[WIRE_NONCE_BYTES], uint8_t *body,
                      size_t bytes);
// Whether an answer comes from who knows our secret.
bool hello_answer_proven(struct member *member, const struct connection *host,
                         const struct connection_frame *frame);

// --- admit.c: the host's side
tally_status_t admit_listen(struct member *member);
// From now on: a parent hears its children when it has a parent itself, so that
// news always have a way up.
void admit_open(struct member *member);
void admit_accept(struct member *member);
void admit_frame(struct member *member, struct connection *guest,
                 const struct connection_frame *frame);
// Of the root: a rank has come, so its children may go to it.
void admit_children_of(struct member *member, int32_t rank);
// A guest is gone that waited, or had not answered a welcome.
void admit_forget(struct member *member, struct connection *guest);
void admit_tick(struct member *member, int64_t now_us);
int64_t admit_next_us(const struct member *member);
void admit_close(struct member *member); // no more guests

// --- join.c: the guest's side
void join_begin(struct member *member);
void join_connected(struct member *member, struct connection *host);
void join_frame(struct member *member, struct connection *host,
                const struct connection_frame *frame);
void join_broken(struct member *member, const char *why);
void join_tick(struct member *member, int64_t now_us);

// --- presence.c: who is there
void presence_came(struct member *member, int32_t rank); // it is in the tree
void presence_tick(struct member *member, int64_t now_us);
void presence_go(struct member *member);

// --- news.c
void news_frame(struct member *member, struct connection *from,
                const struct connection_frame *frame);
void news_broken(struct member *member, struct connection *connection);
void news_leave(struct member *member);

// --- gather.c: exchanges
// The caller's part, in two steps: a copy, under the lock that keeps the caller
// from giving up; then its way up. NULL: no memory.
uint8_t *gather_request_encode(const struct member *member,
                               const struct member_request *request,
                               size_t *bytes);
void gather_request_take(struct member *member, uint8_t *body, size_t bytes);
void gather_frame(struct member *member, struct connection *from,
                  const struct connection_frame *frame);
// An answer that came from above.
void gather_answer(struct member *member, const struct connection_frame *frame);
void gather_parent_gone(struct member *member, const char *why);
void gather_child_gone(struct member *member, struct connection *child);
void gather_tick(struct member *member, int64_t now_us);
int64_t gather_next_us(const struct member *member);
void gather_free_all(struct member *member);

// --- loop.c
void *loop_run(void *member); // all of it, in a thread of its own

// Or one after the other. First:
void loop_begin(struct member *member);
// Then turns, each with what `wait` of the network told. False: it is over.
#define LOOP_EVENTS_MAX 64
bool loop_turn(struct member *member, const struct epoll_event *events,
               int count);
// How long until the next turn, at most, if nothing comes. -1: no limit.
int loop_wait_ms(const struct member *member);

#endif
