// SPDX-License-Identifier: BSD-3-Clause
// Who is in the tree already. Every arrival is told to the root; when all are
// there, the root says go; when the deadline passes, it says who did not come.
#include <stdlib.h>
#include <string.h>

#include "bootstrap/rank_list.h"
#include "bootstrap/tree/rooms.h"
#include "bootstrap/tree/shape.h"

void presence_go(struct member *member)
{
    for (struct connection *one = member->connections; one != NULL;
         one = one->next)
        if (one->role == ROLE_CHILD)
            connection_send(one, WIRE_GO, NULL, 0);
        else if (one->role == ROLE_GUEST || one->role == ROLE_WAITING)
            one->broken = true; // too many
    admit_close(member);
    if (member_is_root(member))
        core_log(member->log, TALLY_LOG_INFO,
                 "all %d ranks have come, at most %d connections at once",
                 (int)member->size, (int)member->connection_most);
    member->state = MEMBER_UP;
    pthread_mutex_lock(&member->shared.lock);
    member->shared.state = MEMBER_UP;
    pthread_cond_broadcast(&member->shared.changed);
    pthread_mutex_unlock(&member->shared.lock);
}

void presence_came(struct member *member, int32_t rank)
{
    if (member->parent != NULL) {
        struct wire_news news = {rank, WIRE_NEWS_HERE};
        uint8_t body[sizeof(news)];

        connection_send(member->parent, WIRE_NEWS, body,
                        wire_news_encode(&news, body, sizeof(body)));
        return;
    }
    if (!member_is_root(member) || rank < 0 || rank >= member->size ||
        member->arrivals[rank].in_tree)
        return;
    member->arrivals[rank].in_tree = true;
    admit_children_of(member, rank);
    if (++member->in_tree == member->size && member->state == MEMBER_COMING_UP)
        presence_go(member);
}

static void root_gives_up(struct member *member)
{
    struct rank_list missing = {.count = 0};

    for (int32_t rank = 0; rank < member->size; rank++)
        if (!member->arrivals[rank].in_tree)
            rank_list_add(&missing, rank);
    member_fail(member, TALLY_ERR_TIMEOUT, "%s did not come within %g s",
                rank_list_text(&missing), (double)member->patience_us * 1e-6);
}

static void guest_gives_up(struct member *member)
{
    const struct member_join *join = &member->join;
    double seconds = (double)member->timeout_us * 1e-6;

    if (!join->at_root)
        member_fail(member, TALLY_ERR_TIMEOUT,
                    "rank %d was not found at %s within %g s: %s",
                    (int)shape_parent(member->rank, member->radix), join->place,
                    seconds, join->why);
    else
        member_fail(member, TALLY_ERR_TIMEOUT,
                    "rank 0 was not found at %s within %g s: %s", join->place,
                    seconds, join->why);
}

void presence_tick(struct member *member, int64_t now_us)
{
    bool heard = member->parent != NULL || member->join.link != NULL ||
                 member->join.sent_away;

    bool waited_for_verdict = now_us >= member->deadline_us + MEMBER_VERDICT_US;

    if (member->state != MEMBER_COMING_UP || now_us < member->deadline_us)
        return;
    if (member_is_root(member))
        root_gives_up(member);
    else if (!heard && (member->join.at_root || waited_for_verdict))
        guest_gives_up(member);
    else if (waited_for_verdict) // of the root, who says who is missing
        member_fail(member, TALLY_ERR_TIMEOUT,
                    "rank 0 did not say within %g s who is missing",
                    (double)member->timeout_us * 1e-6);
}
