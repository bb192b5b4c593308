// SPDX-License-Identifier: BSD-3-Clause
// What the rendezvous says on the wire: frames of a header and a body. Bytes
// only: no sockets, no state. All numbers are little-endian.
//
// X_encode writes at most `room` bytes and returns how many the body needs.
// X_decode is false where the body is not a whole X; its pointers borrow from
// the body.
#ifndef BOOTSTRAP_LINK_WIRE_H
#define BOOTSTRAP_LINK_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Changes with the meaning of any frame.
#define WIRE_PROTOCOL 2

#define WIRE_HEADER_BYTES 8
#define WIRE_NONCE_BYTES 32
#define WIRE_MAC_BYTES 32
#define WIRE_ADDRESS_BYTES 16 // IPv6, or IPv4 mapped into it

// The longest body from who is not admitted yet, and from who is.
#define WIRE_GUEST_BYTES_MAX ((uint32_t)16 << 10)
#define WIRE_BODY_BYTES_MAX ((uint32_t)1 << 30)

enum wire_type {
    WIRE_CHALLENGE, // server to guest: a nonce
    WIRE_HELLO,     // guest to server: who it is
    WIRE_WELCOME,   // server: I am your parent
    WIRE_REDIRECT,  // root: your parent is elsewhere
    WIRE_LATER,     // server: come again
    WIRE_REFUSE,    // down: the rendezvous has failed, or you are a stranger
    WIRE_NEWS,      // both ways: a rank has come, left, or died
    WIRE_GO,        // down: all have come
    WIRE_GATHER,    // up: one rank's part of an exchange
    WIRE_RESULT,    // down: all parts
    WIRE_FAILURE,   // down: the exchange failed
    WIRE_TYPE_COUNT
};

struct wire_header {
    uint8_t type;
    uint8_t protocol;
    uint32_t bytes; // of the body
};

struct wire_text {
    const char *bytes; // not terminated
    uint32_t length;
};

// A MAC stands first in its body and covers the rest of it.
struct wire_challenge {
    uint8_t nonce[WIRE_NONCE_BYTES];
};

struct wire_hello {
    uint8_t mac[WIRE_MAC_BYTES];
    uint8_t nonce[WIRE_NONCE_BYTES];
    uint8_t secured; // 1: the sender has a secret
    uint32_t abi;
    int32_t rank;
    int32_t world_size;
    uint32_t timeout_ms;  // the sender's, for coming up
    uint32_t patience_ms; // what is left of it
    uint16_t port;        // where its children find it; 0: it has none
    struct wire_text job, version, settings;
};

struct wire_welcome {
    uint8_t mac[WIRE_MAC_BYTES];
};

struct wire_place {
    uint8_t mac[WIRE_MAC_BYTES];
    uint8_t address[WIRE_ADDRESS_BYTES];
    uint16_t port;
};

struct wire_later {
    uint8_t mac[WIRE_MAC_BYTES];
    uint32_t pause_ms;
};

struct wire_refuse {
    int32_t status;   // tally_status_t
    uint8_t stranger; // 1: only the addressee is turned away
    struct wire_text sentence;
};

enum wire_news_state {
    WIRE_NEWS_HERE,
    WIRE_NEWS_LEFT,
    WIRE_NEWS_DIED,
    WIRE_NEWS_STATE_COUNT
};

struct wire_news {
    int32_t rank;
    uint8_t state; // enum wire_news_state
};

// Names one exchange of one group: a digest of ranks, key and sequence.
struct wire_exchange_id {
    uint64_t word[2];
};

struct wire_gather {
    struct wire_exchange_id id;
    int32_t rank;
    uint32_t count; // ranks that take part
    struct wire_text part;
};

struct wire_result {
    struct wire_exchange_id id;
    struct wire_text parts; // in the order of ranks
};

struct wire_failure {
    struct wire_exchange_id id;
    int32_t status;
    struct wire_text sentence;
    // Ranks that had come, int32 each, ascending; where the deadline passed.
    struct wire_text present;
};

void wire_header_encode(const struct wire_header *header,
                        uint8_t out[WIRE_HEADER_BYTES]);
// False: these are not the bytes of a rendezvous.
bool wire_header_decode(const uint8_t in[WIRE_HEADER_BYTES],
                        struct wire_header *out);

#define WIRE_DECLARE(kind)                                                     \
    size_t wire_##kind##_encode(const struct wire_##kind *from, void *out,     \
                                size_t room);                                  \
    bool wire_##kind##_decode(const void *body, size_t bytes,                  \
                              struct wire_##kind *out)

WIRE_DECLARE(challenge);
WIRE_DECLARE(hello);
WIRE_DECLARE(welcome);
WIRE_DECLARE(place);
WIRE_DECLARE(later);
WIRE_DECLARE(refuse);
WIRE_DECLARE(news);
WIRE_DECLARE(gather);
WIRE_DECLARE(result);
WIRE_DECLARE(failure);

// Rank i of wire_failure.present.
int32_t wire_present_rank(const struct wire_text *present, uint32_t i);

#endif
