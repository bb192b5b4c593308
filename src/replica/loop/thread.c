// SPDX-License-Identifier: BSD-3-Clause
// The loop's thread, and who moves the loop in its place.
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/error.h"
#include "replica/loop/state.h"

// Where a transport has no descriptor to wait for.
#define NAP_US 200
#define LOOKS_A_HEARTBEAT 4
// Of the thread, after others have moved the loop: they come again soon.
#define DEAF_US 500
// Who moves, and has not for so long, moves no more.
#define HELD_UP_US 5000

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void move(struct replica_loop *loop)
{
    const struct replica_event timer = {.kind = REPLICA_EVENT_TIMER};

    loop->params.ops->progress(loop->params.transport);
    replica_peers_progress(loop->peers, loop->now_us);
    if (atomic_load(&loop->ended) && atomic_exchange(&loop->ended, false))
        loop->check_us = 0;
    if (loop->now_us >= loop->check_us) {
        loop->check_us =
            loop->now_us + loop->params.heartbeat_us / LOOKS_A_HEARTBEAT;
        loop_look_at_peers(loop);
        loop->check_us = least(loop->check_us, replica_peers_due(loop->peers));
    }
    if (loop->now_us >= loop->timer_us)
        loop_handle(loop, &timer);
    loop_serve_trainer(loop);
}

// How long it may sleep, in microseconds.
static int64_t rest_us(const struct replica_loop *loop)
{
    int64_t until = least(loop->timer_us, loop->check_us);

    if (loop->phase == LOOP_ENTERED || loop->phase == LOOP_VOTED)
        until = least(until, loop->deadline_us);
    if (loop->phase == LOOP_OFFERED) // the hold for who joins ends by itself
        until = least(until, loop->now_us + loop->params.heartbeat_us / 20);
    return until > loop->now_us ? until - loop->now_us : 0;
}

bool loop_oversleeps(struct replica_loop *loop)
{
    const tally_transport_ops_t *ops = loop->params.ops;
    int fd;

    if (loop->sleep_us == 0 || park_silences())
        return false;
    // The thread sends what may wait, if it comes soon.
    if (replica_peers_holds(loop->peers) &&
        loop->sleep_us > loop->now_us + DEAF_US)
        replica_peers_release(loop->peers);
    bool oversleeps =
        loop->has_outcome || loop->now_us + rest_us(loop) < loop->sleep_us;
    // What was sent meanwhile may need more progress before it is out.
    if (!oversleeps && loop->listens)
        oversleeps = ops->wait_fd(loop->params.transport, &fd) == TALLY_NOT_YET;
    if (oversleeps)
        loop->sleep_us = 0;
    return oversleeps;
}

// What the thread sleeps on, and for how long at most.
struct bed {
    // To be woken by, then processes of this host, then the transport's.
    struct pollfd fds[REPLICA_PEERS_MAX + 2];
    nfds_t processes;
    nfds_t count;
    int64_t limit_us;
};

static void listen_to(struct replica_loop *loop, struct bed *bed)
{
    const tally_transport_ops_t *ops = loop->params.ops;
    int fd;

    bed->processes = replica_peers_pidfds(loop->peers, &bed->fds[1]);
    bed->count = 1 + bed->processes;
    bed->limit_us = rest_us(loop);
    if (atomic_load(&loop->movers) > 0 ||
        loop->now_us < loop->moved_us + DEAF_US) {
        bed->limit_us = least(bed->limit_us, DEAF_US); // they take what comes
        return;
    }
    tally_status_t status = ops->wait_fd != NULL
                                ? ops->wait_fd(loop->params.transport, &fd)
                                : TALLY_ERR_UNSUPPORTED;
    loop->listens = status == TALLY_OK && replica_ear_listen(&loop->ear, fd);
    if (loop->listens)
        bed->fds[bed->count++] =
            (struct pollfd){.fd = loop->ear.fd, .events = POLLIN};
    else if (status == TALLY_NOT_YET)
        bed->limit_us = 0;
    else
        bed->limit_us = least(bed->limit_us, NAP_US);
}

static void lie_down(struct replica_loop *loop, struct bed *bed)
{
    loop->listens = false;
    loop->hushed = false;
    listen_to(loop, bed);
    loop->sleep_us = loop->now_us + bed->limit_us;
}

// While others move, without the lock. Who leaves looks at when it wakes: so
// that is said before it is looked whether they are still there.
static void stand_aside(struct replica_loop *loop, struct bed *bed)
{
    bed->count = 1 + bed->processes;
    loop->listens = false;
    loop->hushed = false;
    loop->sleep_us = clock_now_us() + DEAF_US;
    bed->limit_us = atomic_load(&loop->movers) > 0 ? DEAF_US : 0;
}

// Returns whether a process of this host has ended.
static bool sleep_on(struct bed *bed)
{
    const struct timespec time = {bed->limit_us / 1000000,
                                  bed->limit_us % 1000000 * 1000};
    struct pollfd *fds = bed->fds;
    uint64_t wakes;
    bool ended = false;

    if (ppoll(fds, bed->count, &time, NULL) <= 0)
        return false;
    if ((fds[0].revents & POLLIN) != 0 &&
        read(fds[0].fd, &wakes, sizeof(wakes)) < 0)
        return false;
    for (nfds_t i = 1; i <= bed->processes; i++)
        ended = ended || fds[i].revents != 0;
    return ended;
}

// Moves everything once. Returns whether something is owed, then in *outcome.
static bool turn(struct replica_loop *loop, struct replica_outcome *outcome)
{
    loop->now_us = clock_now_us();
    atomic_store(&loop->turned_us, loop->now_us);
    if (!park_silences())
        move(loop);
    if (!loop->has_outcome)
        return false;
    loop->has_outcome = false;
    *outcome = loop->outcome;
    return true;
}

// A callback of the host program may hold up who moves, or end its thread.
static bool others_move(const struct replica_loop *loop)
{
    return atomic_load(&loop->movers) > 0 &&
           clock_now_us() < atomic_load(&loop->turned_us) + HELD_UP_US;
}

// Whether it is the thread that moves; it has the lock then. Who else moves has
// the lock nearly all the time: it would have to wake the thread at every
// unlock, and take turns with it.
static bool take_turn(struct replica_loop *loop)
{
    while (!others_move(loop)) {
        if (loop_try_lock(loop))
            return true;
        sched_yield();
    }
    return false;
}

// Who has the lock may be in the transport: it is waited for.
static void rest_for_good(struct replica_loop *loop)
{
    if (!park_is_asked(&loop->thread))
        return;
    loop_lock(loop);
    pthread_cond_broadcast(&loop->publication.changed);
    loop_unlock(loop);
    park_here(&loop->thread);
}

static void *run(void *argument)
{
    struct replica_loop *loop = argument;
    struct bed bed = {.fds = {{.fd = loop->wake_fd, .events = POLLIN}}};
    struct replica_outcome outcome;

    prctl(PR_SET_NAME, "tally-replica");
    while (!atomic_load(&loop->stop)) {
        bool owes = false;
        if (take_turn(loop)) {
            loop->sleep_us = 0;
            owes = turn(loop, &outcome);
            replica_peers_release(loop->peers);
            lie_down(loop, &bed);
            loop_unlock(loop);
        } else {
            stand_aside(loop, &bed);
        }
        if (owes)
            loop->params.decided(loop->params.context, &outcome);
        else if (sleep_on(&bed)) {
            atomic_store(&loop->ended, true);
            bed.processes = 0; // they stay readable until they are looked at
        }
        rest_for_good(loop);
    }
    loop_lock(loop);
    if (!park_silences())
        replica_peers_release(loop->peers);
    loop_unlock(loop);
    return NULL;
}

// Who moves takes what comes: a thread that sleeps is not woken for it. It
// would stand aside, on a processor that another replica may need. It gets up
// if who moves is held up.
static void hush(struct replica_loop *loop)
{
    if (loop->listens) {
        replica_ear_stop(&loop->ear);
        loop->listens = false;
        loop->hushed = true;
    } else if (!loop->hushed || !loop->rings_soon) {
        return;
    }
    loop->rings_soon = false;
    replica_ear_ring(&loop->ear, HELD_UP_US);
}

// The thread hears again if nobody moves for a while.
static void hear_again(struct replica_loop *loop)
{
    if (!loop->hushed)
        return;
    loop->rings_soon = true;
    loop->sleep_us = loop->now_us + DEAF_US;
    replica_ear_ring(&loop->ear, DEAF_US);
}

// What it has moved, the thread goes on with.
static void leave(struct replica_loop *loop)
{
    loop_lock(loop);
    bool last = atomic_fetch_sub(&loop->movers, 1) == 1;
    loop->moved_us = clock_now_us();
    loop->now_us = loop->moved_us;
    if (last)
        hear_again(loop);
    bool wakes = loop_oversleeps(loop);
    loop_unlock(loop);
    if (wakes)
        loop_wake(loop);
}

void replica_loop_move(struct replica_loop *loop,
                       bool (*is_over)(void *context), void *context,
                       int64_t limit_us)
{
    int64_t end_us = clock_now_us() + limit_us;
    struct replica_outcome outcome;

    atomic_fetch_add(&loop->movers, 1);
    while (!is_over(context)) {
        loop_lock(loop);
        hush(loop);
        bool owes = turn(loop, &outcome);
        bool late = loop->now_us >= end_us;
        loop_unlock(loop);
        if (owes)
            loop->params.decided(loop->params.context, &outcome);
        else if (late)
            break;
        else
            sched_yield();
    }
    leave(loop);
}

bool replica_loop_rests(const struct replica_loop *loop)
{
    return park_is_asked(&loop->thread);
}

static void wake_thread(void *argument)
{
    loop_wake(argument);
}

tally_status_t loop_start_thread(struct replica_loop *loop)
{
    int error = park_start(&loop->thread, run, wake_thread, loop);

    if (error != 0)
        return core_fail(TALLY_ERR_SYSTEM,
                         "cannot start the replica thread: "
                         "%s",
                         strerror(error));
    return TALLY_OK;
}
