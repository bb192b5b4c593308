// SPDX-License-Identifier: BSD-3-Clause
// News of ranks, flooded through the tree: what one side says goes to all
// others. A connection that breaks without a word is the news of a death.
#include "bootstrap/tree/rooms.h"
#include "bootstrap/tree/shape.h"

static void send_news(struct connection *to, int32_t rank,
                      enum wire_news_state state)
{
    struct wire_news news = {rank, (uint8_t)state};
    uint8_t body[sizeof(news)];

    connection_send(to, WIRE_NEWS, body,
                    wire_news_encode(&news, body, sizeof(body)));
}

static void spread(struct member *member, const struct connection *from,
                   int32_t rank, enum wire_news_state state)
{
    health_report(member->health, rank,
                  state == WIRE_NEWS_LEFT ? HEALTH_LEFT : HEALTH_DIED);
    for (struct connection *one = member->connections; one != NULL;
         one = one->next)
        if (one != from &&
            (one->role == ROLE_CHILD || one->role == ROLE_PARENT))
            send_news(one, rank, state);
}

void news_frame(struct member *member, struct connection *from,
                const struct connection_frame *frame)
{
    struct wire_news news;

    if (!wire_news_decode(frame->body, frame->header.bytes, &news)) {
        from->broken = true;
        return;
    }
    if (news.state == WIRE_NEWS_HERE) {
        if (news.rank == from->rank)
            from->proven = true;
        presence_came(member, news.rank);
        return;
    }
    if (member->state == MEMBER_COMING_UP && from->role == ROLE_CHILD) {
        // Whoever hears it first on the way up ends the rendezvous: all must
        // come.
        if (member->parent != NULL)
            send_news(member->parent, news.rank,
                      (enum wire_news_state)news.state);
        else
            member_fail(member, TALLY_ERR_BOOTSTRAP,
                        "rank %d %s before all ranks had come", (int)news.rank,
                        news.state == WIRE_NEWS_LEFT ? "left" : "died");
        return;
    }
    spread(member, from, news.rank, (enum wire_news_state)news.state);
    // It says so of itself: no death when the connection ends.
    if (news.rank == from->rank && news.state == WIRE_NEWS_LEFT)
        from->closing = true;
}

static void parent_broke(struct member *member)
{
    member->parent = NULL;
    if (member->state == MEMBER_COMING_UP)
        member_fail(member, TALLY_ERR_BOOTSTRAP,
                    "the connection to rank %d broke before all ranks had come",
                    (int)shape_parent(member->rank, member->radix));
}

void news_broken(struct member *member, struct connection *connection)
{
    int32_t rank = connection->rank;
    bool left = connection->closing; // it said so

    switch (connection->role) {
    case ROLE_JOINING:
        join_broken(member, "the connection broke");
        return;
    case ROLE_WAITING:
        admit_forget(member, connection);
        return;
    case ROLE_CHILD:
        if (!connection->proven) {
            admit_forget(member, connection);
            return;
        }
        gather_child_gone(member, connection);
        if (member->state == MEMBER_COMING_UP && member_is_root(member))
            member_fail(member, TALLY_ERR_BOOTSTRAP,
                        "rank %d died before all ranks had come", (int)rank);
        else if (!left && !member->finishing)
            spread(member, connection, rank, WIRE_NEWS_DIED);
        return;
    case ROLE_PARENT:
        parent_broke(member);
        if (!left && !member->finishing && member->state == MEMBER_UP)
            spread(member, connection, rank, WIRE_NEWS_DIED);
        gather_parent_gone(member, left ? "left" : "died");
        return;
    default:
        return;
    }
}

void news_leave(struct member *member)
{
    for (struct connection *one = member->connections; one != NULL;
         one = one->next)
        if (one->role == ROLE_CHILD || one->role == ROLE_PARENT)
            send_news(one, member->rank, WIRE_NEWS_LEFT);
}
