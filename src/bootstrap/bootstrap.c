// SPDX-License-Identifier: BSD-3-Clause
// The caller's side of the rendezvous: starts a member's thread, waits for it
// to come up, and hands it exchanges.
#include "bootstrap/bootstrap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bootstrap/rank_list.h"
#include "bootstrap/tree/rooms.h"
#include "core/clock.h"
#include "core/error.h"

// How often a waiting caller looks at the health of its group, and what an
// answer may take that was on its way when a rank died.
#define LOOK_US 50000
#define GRACE_US 500000

// What the caller's side of a member needs: its thread is woken by the caller,
// who may ask which ranks were missing.
static tally_status_t open_caller_side(struct member *member)
{
    struct network *network = member->network;

    member->missing = calloc((size_t)member->size, sizeof(*member->missing));
    if (member->missing == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for the rendezvous");
    member->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (member->wake_fd < 0 ||
        network->ops->watch(network, member->wake_fd, false, EPOLLIN,
                            &member->wake_fd) < 0)
        return core_fail(TALLY_ERR_SYSTEM, "the rendezvous: %s",
                         strerror(errno));
    return TALLY_OK;
}

static void wake(void *argument)
{
    const struct member *member = argument;
    uint64_t one = 1;

    // Cannot fail: the counter does not come near its end.
    if (write(member->wake_fd, &one, sizeof(one)) < 0)
        return;
}

static tally_status_t start_thread(struct member *member)
{
    int error = park_start(&member->thread, loop_run, wake, member);

    if (error != 0)
        return core_fail(TALLY_ERR_SYSTEM, "the rendezvous' thread: %s",
                         strerror(error));
    return TALLY_OK;
}

static void rendezvous_close(struct exchange *exchange)
{
    struct member *member = (struct member *)exchange;

    pthread_mutex_lock(&member->shared.lock);
    member->shared.closing = true;
    pthread_mutex_unlock(&member->shared.lock);
    wake(member);
    park_join(&member->thread);
    member_free(member);
}

// ------------------------------------------------------------------ exchanges

// FNV-1a (Fowler, Noll, Vo) over what tells exchanges apart; two words by two
// beginnings.
static void digest_add(uint64_t word[2], const void *bytes, size_t count)
{
    const uint8_t *byte = bytes;

    for (size_t i = 0; i < count; i++)
        for (int w = 0; w < 2; w++)
            word[w] = (word[w] ^ byte[i]) * 0x100000001b3u;
}

static struct wire_exchange_id exchange_id(const struct exchange_group *group)
{
    struct wire_exchange_id id = {{0xcbf29ce484222325u, 0x84222325cbf29ce4u}};

    digest_add(id.word, group->ranks,
               (size_t)group->count * sizeof(*group->ranks));
    digest_add(id.word, group->key, strlen(group->key) + 1);
    digest_add(id.word, &group->sequence, sizeof(group->sequence));
    return id;
}

static int32_t find_state(const struct member *member,
                          const struct exchange_group *group, int64_t grace_us,
                          enum health_state state)
{
    int64_t since_us;

    for (int32_t i = 0; i < group->count; i++)
        if (health_rank(member->health, group->ranks[i], &since_us) == state &&
            clock_now_us() >= since_us + grace_us)
            return group->ranks[i];
    return -1;
}

// A rank of the group that has been gone for as long as the grace, or -1. Who
// died comes before who left: it may have left because of that.
static int32_t find_gone(const struct member *member,
                         const struct exchange_group *group, int64_t grace_us,
                         enum health_state *state)
{
    int32_t gone = find_state(member, group, grace_us, *state = HEALTH_DIED);

    return gone >= 0
               ? gone
               : find_state(member, group, grace_us, *state = HEALTH_LEFT);
}

static tally_status_t say_gone(struct member *member, int32_t rank,
                               enum health_state state)
{
    member->missing[0] = rank;
    member->missing_count = 1;
    return core_fail(TALLY_ERR_PEER, "rank %d %s", (int)rank,
                     state == HEALTH_LEFT ? "left (tally_close)" : "died");
}

static tally_status_t say_missing(struct member *member,
                                  const struct exchange_group *group,
                                  const struct member_request *request)
{
    struct rank_list missing = {.count = 0};

    for (int32_t i = 0; i < group->count; i++) {
        bool present = false;

        for (uint32_t j = 0; j < request->present_count && !present; j++)
            present = request->present[j] == group->ranks[i];
        if (present)
            continue;
        rank_list_add(&missing, group->ranks[i]);
        member->missing[member->missing_count++] = group->ranks[i];
    }
    return core_fail(TALLY_ERR_TIMEOUT, "%s did not come within %g s",
                     rank_list_text(&missing),
                     (double)member->timeout_us * 1e-6);
}

// Waits, under the lock, until the answer, a death or the deadline.
static tally_status_t await(struct member *member,
                            const struct exchange_group *group,
                            struct member_request *request)
{
    struct member_shared *shared = &member->shared;
    int64_t end_us = clock_now_us() + member->timeout_us + MEMBER_VERDICT_US;
    enum health_state state;
    int32_t gone;

    while (!request->done) {
        struct timespec next = clock_after(CLOCK_MONOTONIC, LOOK_US);

        pthread_cond_timedwait(&shared->changed, &shared->lock, &next);
        if (request->done)
            break;
        gone = find_gone(member, group, GRACE_US, &state);
        if (gone >= 0)
            return say_gone(member, gone, state);
        if (clock_now_us() >= end_us)
            return core_fail(TALLY_ERR_TIMEOUT,
                             "rank 0 did not answer within %g s",
                             (double)member->timeout_us * 1e-6);
    }
    if (request->status == TALLY_ERR_TIMEOUT)
        return say_missing(member, group, request);
    // A relay that is gone may be gone because a rank of ours is.
    gone = request->status == TALLY_ERR_PEER
               ? find_gone(member, group, 0, &state)
               : -1;
    if (gone >= 0)
        return say_gone(member, gone, state);
    if (request->status != TALLY_OK)
        return core_fail(request->status, "%s", request->sentence);
    return TALLY_OK;
}

static tally_status_t rendezvous_allgather(struct exchange *exchange,
                                           struct exchange_group *group,
                                           const void *send, void *recv,
                                           size_t bytes)
{
    struct member *member = (struct member *)exchange;
    struct member_shared *shared = &member->shared;
    struct member_request request = {
        .id = exchange_id(group),
        .count = (uint32_t)group->count,
        .part = send,
        .bytes = (uint32_t)bytes,
        .result = recv,
    };
    tally_status_t status;

    if (bytes > WIRE_BODY_BYTES_MAX / 2 / (size_t)group->count)
        return core_fail(TALLY_ERR_INVALID, "an exchange of %zu bytes a rank",
                         bytes);
    group->sequence++;
    member->missing_count = 0;
    if (group->count == 1) {
        memcpy(recv, send, bytes);
        return TALLY_OK;
    }
    request.present = calloc((size_t)group->count, sizeof(*request.present));
    if (request.present == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for an exchange");
    pthread_mutex_lock(&shared->lock);
    shared->request = &request;
    wake(member);
    status = await(member, group, &request);
    shared->request = NULL;
    pthread_mutex_unlock(&shared->lock);
    free(request.present);
    return status;
}

int32_t bootstrap_missing(const struct exchange *exchange, int32_t *missing)
{
    const struct member *member = (const struct member *)exchange;
    size_t count = (size_t)member->missing_count;

    memcpy(missing, member->missing, count * sizeof(*missing));
    return member->missing_count;
}

static const struct exchange_ops rendezvous_ops = {
    .allgather = rendezvous_allgather,
    .close = rendezvous_close,
};

tally_status_t bootstrap_open(const struct bootstrap_params *params,
                              struct exchange **out)
{
    struct network *network = network_open();
    struct member *member;
    tally_status_t status;

    if (network == NULL)
        return core_fail(TALLY_ERR_SYSTEM, "the rendezvous: %s",
                         strerror(errno));
    status = member_create(params, network, &member);
    if (status != TALLY_OK)
        return status;
    member->base.ops = &rendezvous_ops;
    status = open_caller_side(member);
    if (status != TALLY_OK)
        goto free_member;
    status = start_thread(member);
    if (status != TALLY_OK)
        goto free_member;
    pthread_mutex_lock(&member->shared.lock);
    while (member->shared.state == MEMBER_COMING_UP)
        pthread_cond_wait(&member->shared.changed, &member->shared.lock);
    pthread_mutex_unlock(&member->shared.lock);
    if (member->shared.state == MEMBER_UP) {
        *out = &member->base;
        return TALLY_OK;
    }
    park_join(&member->thread);
    status = core_fail(member->shared.status, "%s", member->shared.sentence);

free_member:
    member_free(member);
    return status;
}

void bootstrap_interface(const struct exchange *exchange, struct interface *out)
{
    // The thread writes it while it comes up, and never after.
    const struct member *member = (const struct member *)exchange;

    memset(out, 0, sizeof(*out));
    (void)interface_find(&member->own, out);
}
