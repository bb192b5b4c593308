// SPDX-License-Identifier: BSD-3-Clause
// The first words between guest and host. Each side sends a nonce, and answers
// the other's with a MAC keyed by TALLY_SECRET where one is set; a hello also
// says all that must be equal at all ranks.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bootstrap/secret.h"
#include "bootstrap/tree/rooms.h"

static struct wire_text text_of(const char *string)
{
    return (struct wire_text){string, (uint32_t)strlen(string)};
}

static bool text_equals(const struct wire_text *text, const char *string)
{
    return text->length == strlen(string) &&
           memcmp(text->bytes, string, text->length) == 0;
}

// As it travels; what is longer, 49 days, is as good as for ever.
static uint32_t milliseconds(int64_t us)
{
    int64_t ms = us > 0 ? us / 1000 : 0;

    return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

void hello_send(struct member *member, struct connection *host,
                const uint8_t host_nonce[WIRE_NONCE_BYTES])
{
    int64_t left_us = member->deadline_us - network_now_us(member->network);
    struct wire_hello hello = {
        .secured = member->secret != NULL,
        .abi = member->abi,
        .rank = member->rank,
        .world_size = member->size,
        .timeout_ms = milliseconds(member->timeout_us),
        .patience_ms = milliseconds(left_us),
        .port = member->port,
        .job = text_of(member->identity.job),
        .version = text_of(member->version),
        .settings = text_of(member->settings),
    };

    memcpy(hello.nonce, host->nonce, sizeof(hello.nonce));
    size_t bytes = wire_hello_encode(&hello, NULL, 0);
    uint8_t *body = malloc(bytes);
    if (body == NULL) {
        member_fail(member, TALLY_ERR_MEMORY, "no memory for a hello");
        return;
    }
    wire_hello_encode(&hello, body, bytes);
    hello_answer_mac(member, WIRE_HELLO, host_nonce, body, bytes);
    connection_send(host, WIRE_HELLO, body, bytes);
    free(body);
}

void hello_answer_mac(struct member *member, enum wire_type type,
                      const uint8_t nonce[WIRE_NONCE_BYTES], uint8_t *body,
                      size_t bytes)
{
    if (member->secret != NULL)
        secret_mac(member->secret, member->secret_bytes, type, nonce,
                   body + WIRE_MAC_BYTES, bytes - WIRE_MAC_BYTES, body);
}

static bool mac_fits(struct member *member,
                     const uint8_t nonce[WIRE_NONCE_BYTES],
                     const struct connection_frame *frame)
{
    uint8_t mac[WIRE_MAC_BYTES];

    return frame->header.bytes >= WIRE_MAC_BYTES &&
           secret_mac(member->secret, member->secret_bytes,
                      (enum wire_type)frame->header.type, nonce,
                      frame->body + WIRE_MAC_BYTES,
                      frame->header.bytes - WIRE_MAC_BYTES, mac) &&
           secret_mac_equal(mac, frame->body);
}

bool hello_answer_proven(struct member *member, const struct connection *host,
                         const struct connection_frame *frame)
{
    return member->secret == NULL || mac_fits(member, host->nonce, frame);
}

// The first line in which two lists of settings differ.
static void settings_difference(const struct wire_text *theirs,
                                const char *ours, int32_t their_rank,
                                int32_t our_rank, char *sentence)
{
    const char *a = theirs->bytes;
    const char *end = theirs->bytes + theirs->length;

    while (a < end && *ours != '\0') {
        const char *newline = memchr(a, '\n', (size_t)(end - a));
        int length_a = (int)((newline != NULL ? newline : end) - a);
        int length_b = (int)strcspn(ours, "\n");
        int name = (int)strcspn(ours, "=\n");

        if (length_a != length_b || memcmp(a, ours, (size_t)length_a) != 0) {
            if (length_a > name && memcmp(a, ours, (size_t)name + 1) == 0)
                snprintf(sentence, MEMBER_SENTENCE_BYTES,
                         "%.*s is %.*s at rank %d and %.*s at rank %d", name,
                         ours, length_a - name - 1, a + name + 1,
                         (int)their_rank, length_b - name - 1, ours + name + 1,
                         (int)our_rank);
            else
                break;
            return;
        }
        a += length_a + (newline != NULL);
        ours += length_b + (ours[length_b] == '\n');
    }
    snprintf(sentence, MEMBER_SENTENCE_BYTES,
             "ranks %d and %d know different settings", (int)their_rank,
             (int)our_rank);
}

static bool is_of_our_job(struct member *member, const struct connection *guest,
                          const struct connection_frame *frame,
                          const struct wire_hello *hello, char *sentence)
{
    char from[SOCKET_TEXT_BYTES];

    socket_place_text(&guest->place, from);
    if (hello->secured != (member->secret != NULL)) {
        snprintf(sentence, MEMBER_SENTENCE_BYTES,
                 "TALLY_SECRET is %sset at rank %d (%s) and %sset at rank %d",
                 hello->secured ? "" : "not ", (int)hello->rank, from,
                 hello->secured ? "not " : "", (int)member->rank);
        return false;
    }
    if (member->secret != NULL && !mac_fits(member, guest->nonce, frame)) {
        snprintf(sentence, MEMBER_SENTENCE_BYTES,
                 "TALLY_SECRET of rank %d (%s) is not that of rank %d",
                 (int)hello->rank, from, (int)member->rank);
        return false;
    }
    if (!text_equals(&hello->job, member->identity.job)) {
        snprintf(sentence, MEMBER_SENTENCE_BYTES,
                 "rank %d (%s) is of job \"%.*s\", here is job \"%s\"",
                 (int)hello->rank, from, (int)hello->job.length,
                 hello->job.bytes, member->identity.job);
        return false;
    }
    return true;
}

bool hello_fits(struct member *member, const struct connection *guest,
                const struct connection_frame *frame,
                const struct wire_hello *hello, bool *stranger,
                char sentence[MEMBER_SENTENCE_BYTES])
{
    *stranger = !is_of_our_job(member, guest, frame, hello, sentence);
    if (*stranger)
        return false;
    if (hello->world_size != member->size)
        snprintf(sentence, MEMBER_SENTENCE_BYTES,
                 "the world size is %d at rank %d and %d at rank %d",
                 (int)hello->world_size, (int)hello->rank, (int)member->size,
                 (int)member->rank);
    else if (hello->rank < 0 || hello->rank >= member->size)
        snprintf(sentence, MEMBER_SENTENCE_BYTES,
                 "there is no rank %d among %d", (int)hello->rank,
                 (int)member->size);
    else if (hello->abi != member->abi ||
             !text_equals(&hello->version, member->version))
        snprintf(sentence, MEMBER_SENTENCE_BYTES,
                 "tally is %.*s (ABI %u) at rank %d and %s (ABI %u) at rank %d",
                 (int)hello->version.length, hello->version.bytes,
                 (unsigned)hello->abi, (int)hello->rank, member->version,
                 (unsigned)member->abi, (int)member->rank);
    else if (!text_equals(&hello->settings, member->settings))
        settings_difference(&hello->settings, member->settings, hello->rank,
                            member->rank, sentence);
    else
        return true;
    return false;
}
