// SPDX-License-Identifier: BSD-3-Clause
// The thread of the progress engine: it moves what nobody else moves, and
// sleeps.
//
// The thread alone sleeps until something comes from another process: waiting
// threads that have spun in vain sleep until it has moved their reduction
// (progress->done, under the lock). Nothing is missed:
//
// - What comes between the last move and the sleep: the source is armed after
//   the move, and arming tells of what was there before (node_arm, wait_fd);
//   what comes later ends the sleep.
// - Another thread of this process moves in between, or later: it may use up
//   what would have ended the sleep, or put a reduction into a stage that waits
//   for another source. So whoever moves in line, or adds something to be
//   moved, wakes the thread, which looks again (sleeper_begin comes before
//   arming, both under the lock).
// - A queue is detached, and the word that is slept on goes with its segment:
//   only the kernel looks at it, and finds none, or sleeps for the interval.
// - Deadlines, processes of the node and what cannot be armed are looked at in
//   intervals.
#include <linux/prctl.h>
#include <sched.h>
#include <sys/prctl.h>

#include "core/clock.h"
#include "order/engine.h"

static const int64_t nap_shortest_us = 50;
static const int64_t nap_longest_us = 1000;
static const int64_t aside_longest_us = 4000;
static const int64_t moves_apart_us = 100; // at most, of who moves all the time
// So long after a stream's last publication the next is looked for at once.
static const int64_t stream_spin_us = 1000;
// Of so many looks at once one lets others run.
#define LOOKS_PER_YIELD 8
// So long after the last reduction the thread goes to sleep, too: not at once,
// as the next post would have to wake it.
static const int64_t idle_after_us = 1000000;

static bool any_pending(const struct progress *progress)
{
    for (struct queue *q = progress->queues; q != NULL; q = q->next)
        if (queue_pending(q))
            return true;
    return false;
}

static bool any_awaited(const struct progress *progress)
{
    for (struct queue *q = progress->queues; q != NULL; q = q->next)
        if (q->awaited)
            return true;
    return false;
}

// Arms what the pending reductions wait for. OK: it may sleep. NOT_YET: there
// is something to do. UNSUPPORTED: something has to be polled.
static tally_status_t arm_transports(struct progress *progress)
{
    tally_status_t result = TALLY_OK;

    for (int i = 0; i < progress->transport_count; i++) {
        const tally_transport_ops_t *ops = progress->transports[i].ops;
        tally_transport_t *transport = progress->transports[i].transport;
        int fd;

        tally_status_t status = ops->wait_fd != NULL
                                    ? ops->wait_fd(transport, &fd)
                                    : TALLY_ERR_UNSUPPORTED;
        if (status == TALLY_NOT_YET)
            return status;
        if (status != TALLY_OK || !sleeper_add_fd(progress->sleeper, fd))
            result = TALLY_ERR_UNSUPPORTED;
    }
    return result;
}

static tally_status_t arm(struct progress *progress)
{
    tally_status_t result = TALLY_OK;
    bool transports = false;

    for (struct queue *q = progress->queues; q != NULL; q = q->next) {
        struct allreduce_source source;

        if (!queue_pending(q))
            continue;
        tally_status_t status = queue_arm(q, &source);
        if (status == TALLY_NOT_YET)
            return status;
        transports |= status == TALLY_OK && source.word == NULL;
        if (status != TALLY_OK ||
            (source.word != NULL &&
             !sleeper_add_word(progress->sleeper, source.word, source.seen)))
            result = TALLY_ERR_UNSUPPORTED;
    }
    if (transports) {
        tally_status_t status = arm_transports(progress);
        if (status != TALLY_OK)
            result = status;
    }
    return result;
}

// What the thread does until it moves again.
struct rest {
    bool sleeps; // or naps
    int64_t us;  // 0: no limit
};

// How it saw the work at its last move.
struct seen {
    uint64_t posted;
    uint64_t completed;
    int64_t changed_us; // when one of these changed
    uint64_t moves_in_line;
    int64_t nap_us;
    int64_t aside_us;  // what it naps for while others move in line
    bool awaited;      // a stream waits for the answer to what it posts
    int64_t gap_us;    // before a post, the last time that it was long
    int64_t slept_us;  // when it fell asleep over pending work; 0: it did not
    int64_t futile_us; // what it naps for, woken for nothing
};

static uint64_t all_completed(const struct progress *progress)
{
    uint64_t sum = 0;

    for (const struct queue *q = progress->queues; q != NULL; q = q->next)
        sum += q->completed;
    return sum;
}

static void note_changes(const struct progress *progress, struct seen *seen,
                         int64_t now_us)
{
    uint64_t completed = all_completed(progress);

    if (seen->posted == progress->posted && seen->completed == completed)
        return;
    if (seen->posted != progress->posted &&
        now_us - seen->changed_us > stream_spin_us)
        seen->gap_us = now_us - seen->changed_us;
    seen->posted = progress->posted;
    seen->completed = completed;
    seen->changed_us = now_us;
    seen->nap_us = nap_shortest_us;
    seen->slept_us = 0;
}

// A descriptor may stay readable though there is nothing to do: whoever is
// woken at once, and finds nothing, naps before it sleeps again, ever longer.
static bool was_futile(struct seen *seen, int64_t now_us)
{
    bool slept = seen->slept_us != 0;
    bool at_once = slept && now_us - seen->slept_us < nap_longest_us;

    seen->slept_us = 0;
    if (slept && !at_once)
        seen->futile_us = 0;
    else if (at_once && seen->futile_us == 0)
        seen->futile_us = nap_shortest_us;
    else if (at_once && seen->futile_us < nap_longest_us)
        seen->futile_us *= 2;
    return at_once;
}

static struct rest sleep_pending(struct progress *progress, struct seen *seen,
                                 int64_t now_us)
{
    struct rest rest = {.sleeps = true, .us = progress->params.look_us};

    if (was_futile(seen, now_us))
        return (struct rest){.us = seen->futile_us};
    sleeper_begin(progress->sleeper);
    tally_status_t status = arm(progress);
    if (status == TALLY_NOT_YET) {
        sleeper_stay(progress->sleeper);
        return (struct rest){.us = nap_shortest_us};
    }
    if (status == TALLY_OK)
        seen->slept_us = now_us;
    else if (rest.us > nap_longest_us)
        rest.us = nap_longest_us;
    return rest;
}

// Others move in line: the thread would only be in their way, and naps. As long
// as they do so all the time it naps ever longer: in a loop of reductions whose
// results are waited for at once, fewer than one in a hundred is to meet it.
// What is posted at the end of such a loop, and not waited for, may lie for one
// nap, which is no longer than the loop was.
static bool others_move(const struct progress *progress, struct seen *seen)
{
    int64_t moves = (int64_t)(progress->moves_in_line - seen->moves_in_line);

    seen->moves_in_line = progress->moves_in_line;
    if (moves * moves_apart_us < seen->aside_us)
        seen->aside_us = nap_longest_us;
    else if (seen->aside_us < aside_longest_us)
        seen->aside_us *= 2;
    return moves > 0 && progress->waits == NULL;
}

// A stream cannot wake anybody. What it publishes is looked for all the time
// for as long as it may be just behind, and around the moment at which it came
// the last time; else in short naps.
static struct rest rest_of_streams(const struct progress *progress,
                                   int64_t quiet_us, int64_t gap_us)
{
    const int64_t early_us = gap_us / 32 + nap_shortest_us;
    const bool expected =
        quiet_us > gap_us - early_us && quiet_us < gap_us + early_us;
    struct rest rest = {.us = nap_longest_us};

    if ((quiet_us < stream_spin_us || expected) &&
        !progress->params.oversubscribed)
        rest.us = 0;
    else if (quiet_us < idle_after_us)
        rest.us = nap_shortest_us;
    return rest;
}

// Moves, and finds what to do then. The lock is held.
static struct rest look(struct progress *progress, struct seen *seen)
{
    int64_t now_us = clock_now_us();
    bool events = engine_move(progress);
    struct rest rest = {.us = seen->nap_us};

    engine_check(progress, now_us);
    engine_tell_waits(progress);
    note_changes(progress, seen, now_us);
    int64_t quiet_us = now_us - seen->changed_us;
    seen->awaited = any_awaited(progress);
    if (seen->awaited)
        return rest_of_streams(progress, quiet_us, seen->gap_us);
    if (others_move(progress, seen)) {
        rest.us = seen->aside_us;
    } else if (any_pending(progress)) {
        if (!events && quiet_us > ENGINE_SLEEP_AFTER_US)
            return sleep_pending(progress, seen, now_us);
    } else if (quiet_us > idle_after_us) {
        bool looks =
            progress->transport_count > 0 || progress->watchdogs != NULL;
        sleeper_begin(progress->sleeper);
        return (struct rest){
            .sleeps = true,
            .us = looks ? progress->params.look_us : 0,
        };
    } else if (seen->nap_us < nap_longest_us) {
        seen->nap_us *= 2;
    }
    return rest;
}

// A yield takes as long as a look, and a stream waits for what is seen.
static void look_again(unsigned *looks)
{
    if (++*looks % LOOKS_PER_YIELD == 0)
        sched_yield();
    else
        engine_relax();
}

// Nobody will move what is pending. Who has the lock may be in a transport: it
// is waited for.
static void rest_for_good(struct progress *progress)
{
    if (!park_is_asked(&progress->thread))
        return;
    progress_lock(progress);
    engine_move(progress);
    engine_tell_waits(progress);
    progress_unlock(progress);
    park_here(&progress->thread);
}

void *engine_thread(void *argument)
{
    struct progress *progress = argument;
    struct seen seen = {.changed_us = clock_now_us(),
                        .nap_us = nap_shortest_us,
                        .aside_us = nap_longest_us};

    unsigned looks = 0;

    prctl(PR_SET_NAME, "tally-progress");
    prctl(PR_SET_TIMERSLACK, 1000ul);
    while (!atomic_load(&progress->stop)) {
        // Who has the lock moves; but a stream's slot may come just after.
        struct rest rest = {.us = seen.awaited ? 0 : seen.aside_us};
        uint32_t rouses = sleeper_rouses(progress->sleeper);

        if (engine_try_lock(progress)) {
            rest = look(progress, &seen);
            progress_unlock(progress);
        }
        if (!rest.sleeps && rest.us == 0)
            look_again(&looks);
        else if (!rest.sleeps)
            sleeper_nap(progress->sleeper, rouses, rest.us);
        else if (atomic_load(&progress->stop) || // before it could be woken
                 park_is_asked(&progress->thread))
            sleeper_stay(progress->sleeper);
        else
            sleeper_sleep(progress->sleeper, rest.us);
        rest_for_good(progress);
    }
    return NULL;
}
