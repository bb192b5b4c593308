// SPDX-License-Identifier: BSD-3-Clause
// See progress.h.
#include "order/progress.h"

#include <assert.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/error.h"
#include "core/log.h"
#include "order/engine.h"

// The clock is read once in so many moves of a waiting thread.
#define MOVES_PER_CHECK 64
// One wait in so many spins as long as is configured.
#define WAITS_PER_TRIAL 64
// Transports, deadlines and processes of the node want a look now and then,
// even asleep.
static const int64_t look_default_us = 20000;

void engine_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

void progress_lock(struct progress *progress)
{
    core_log_hold();
    pthread_mutex_lock(&progress->lock);
}

bool engine_try_lock(struct progress *progress)
{
    if (pthread_mutex_trylock(&progress->lock) != 0)
        return false;
    core_log_hold();
    return true;
}

void progress_unlock(struct progress *progress)
{
    pthread_mutex_unlock(&progress->lock);
    core_log_release();
}

// At exit only who exits calls transports.
static void advance(struct queue *queue)
{
    if (park_silences())
        queue_end(queue, "the process exits");
    else
        queue_advance(queue);
}

// A stream gets its answer as soon as there is one.
static void move_queue(struct progress *progress, struct queue *queue)
{
    uint64_t before = queue->posted;

    if (queue->feed != NULL)
        queue->feed(queue->feed_context);
    advance(queue);
    if (queue->feed != NULL)
        queue->feed(queue->feed_context);
    progress->posted += queue->posted - before;
}

bool engine_move(struct progress *progress)
{
    int transports = park_silences() ? 0 : progress->transport_count;
    bool events = false;

    for (int i = 0; i < transports; i++) {
        // A failed transport shows in the requests of its queues.
        events |= progress->transports[i].ops->progress(
                      progress->transports[i].transport) > 0;
    }
    for (struct queue *q = progress->queues; q != NULL; q = q->next)
        move_queue(progress, q);
    return events;
}

void engine_check(struct progress *progress, int64_t now_us)
{
    if (park_silences())
        return;
    for (struct queue *q = progress->queues; q != NULL; q = q->next)
        queue_check(q, now_us);
    for (struct watchdog *w = progress->watchdogs; w != NULL; w = w->next)
        watchdog_check(w, now_us);
}

void engine_tell_waits(struct progress *progress)
{
    for (struct wait *wait = progress->waits; wait != NULL; wait = wait->next)
        if (queue_done(wait->queue, wait->ticket)) {
            pthread_cond_broadcast(&progress->done);
            return;
        }
}

static void move_in_line(struct progress *progress)
{
    progress->moves_in_line++;
    engine_move(progress);
}

tally_status_t progress_create(const struct progress_params *params,
                               struct progress **out)
{
    struct progress *progress = calloc(1, sizeof(*progress));
    pthread_mutexattr_t attributes;

    if (progress == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for progress");
    tally_status_t status = sleeper_create(&progress->sleeper);
    if (status != TALLY_OK) {
        free(progress);
        return status;
    }
    progress->params = *params;
    if (progress->params.look_us == 0)
        progress->params.look_us = look_default_us;
    atomic_init(&progress->spin_us, (int)params->spin_us);
    // The lock is held for well under a microsecond: spin before sleeping.
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(&progress->lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
    pthread_cond_init(&progress->done, NULL);
    *out = progress;
    return TALLY_OK;
}

void progress_free(struct progress *progress)
{
    if (progress == NULL)
        return;
    assert(progress->queues == NULL && progress->watchdogs == NULL &&
           progress->transport_count == 0);
    atomic_store(&progress->stop, true);
    sleeper_wake(progress->sleeper);
    park_join(&progress->thread);
    sleeper_free(progress->sleeper);
    pthread_cond_destroy(&progress->done);
    pthread_mutex_destroy(&progress->lock);
    free(progress);
}

static void wake_thread(void *argument)
{
    struct progress *progress = argument;

    sleeper_wake(progress->sleeper);
}

tally_status_t progress_start(struct progress *progress)
{
    if (progress->thread.runs)
        return TALLY_OK;
    int error =
        park_start(&progress->thread, engine_thread, wake_thread, progress);
    if (error != 0)
        return core_fail(TALLY_ERR_SYSTEM,
                         "cannot start the progress thread: %s",
                         strerror(error));
    return TALLY_OK;
}

void progress_attach(struct progress *progress, struct queue *queue)
{
    progress_lock(progress);
    queue->next = progress->queues;
    progress->queues = queue;
    progress_unlock(progress);
}

void progress_detach(struct progress *progress, struct queue *queue)
{
    progress_lock(progress);
    for (struct queue **at = &progress->queues; *at != NULL; at = &(*at)->next)
        if (*at == queue) {
            *at = queue->next;
            break;
        }
    progress_unlock(progress);
}

void progress_add_watchdog(struct progress *progress, struct watchdog *watchdog)
{
    progress_lock(progress);
    watchdog->next = progress->watchdogs;
    progress->watchdogs = watchdog;
    progress_unlock(progress);
    sleeper_wake(progress->sleeper); // it may sleep without a limit
}

void progress_drop_watchdog(struct progress *progress,
                            struct watchdog *watchdog)
{
    struct watchdog **at = &progress->watchdogs;

    progress_lock(progress);
    while (*at != watchdog)
        at = &(*at)->next;
    *at = watchdog->next;
    progress_unlock(progress);
}

tally_status_t progress_add_transport(struct progress *progress,
                                      const tally_transport_ops_t *ops,
                                      tally_transport_t *transport)
{
    tally_status_t status = TALLY_OK;

    progress_lock(progress);
    if (progress->transport_count == ENGINE_TRANSPORTS_MAX) {
        status =
            core_fail(TALLY_ERR_UNSUPPORTED, "more than %d transports at once",
                      ENGINE_TRANSPORTS_MAX);
    } else {
        int last = progress->transport_count++;
        progress->transports[last].ops = ops;
        progress->transports[last].transport = transport;
    }
    progress_unlock(progress);
    sleeper_wake(progress->sleeper); // it may sleep without a limit
    return status;
}

void progress_drop_transport(struct progress *progress,
                             tally_transport_t *transport)
{
    progress_lock(progress);
    for (int i = 0; i < progress->transport_count; i++)
        if (progress->transports[i].transport == transport) {
            int last = --progress->transport_count;
            progress->transports[i] = progress->transports[last];
            break;
        }
    progress_unlock(progress);
}

uint64_t progress_post(struct progress *progress, struct queue *queue,
                       const int64_t *lanes, uint64_t epoch)
{
    progress_lock(progress);
    bool idle = !queue_pending(queue);
    uint64_t ticket = queue_post(queue, lanes, epoch);
    progress->posted++;
    // What is sent now is sooner at the others than after a look at what came.
    if (idle)
        advance(queue);
    else
        engine_move(progress);
    engine_tell_waits(progress);
    progress_unlock(progress);
    sleeper_wake(progress->sleeper);
    return ticket;
}

// How a waiting thread passes the time between two moves.
enum wait_phase { WAIT_SPIN, WAIT_YIELD, WAIT_SLEEP };

static enum wait_phase wait_phase_at(int64_t waited_us, int64_t spin_us)
{
    if (waited_us > ENGINE_SLEEP_AFTER_US)
        return WAIT_SLEEP;
    return waited_us >= spin_us ? WAIT_YIELD : WAIT_SPIN;
}

// How long this wait may spin. Once in a while it tries the whole time again.
static int64_t spin_allowed(struct progress *progress)
{
    unsigned waits = atomic_fetch_add(&progress->trials, 1);

    if (progress->params.oversubscribed)
        return 0;
    return waits % WAITS_PER_TRIAL == 0 ? progress->params.spin_us
                                        : atomic_load(&progress->spin_us);
}

// A processor that we spin on may be the one that the awaited rank needs,
// though there seem to be enough. What came while we spun came from another
// processor; what came only after a yield would have come sooner with an
// earlier one. What was there at once says nothing.
static void spin_learn(struct progress *progress, enum wait_phase phase,
                       unsigned moves)
{
    if (phase == WAIT_YIELD)
        atomic_store(&progress->spin_us, atomic_load(&progress->spin_us) / 2);
    else if (phase == WAIT_SPIN && moves > 1)
        atomic_store(&progress->spin_us, (int)progress->params.spin_us);
}

// Leaves it to the thread. What is posted or moved by others of this process,
// all under the lock, tells of it.
static tally_status_t sleep_until_done(struct progress *progress,
                                       struct queue *queue, uint64_t ticket,
                                       int64_t *lanes)
{
    struct wait wait = {.queue = queue, .ticket = ticket};
    struct wait **at;

    progress_lock(progress);
    wait.next = progress->waits;
    progress->waits = &wait;
    sleeper_rouse(progress->sleeper); // it may nap, as we moved until now
    while (!queue_done(queue, ticket))
        pthread_cond_wait(&progress->done, &progress->lock);
    for (at = &progress->waits; *at != &wait; at = &(*at)->next)
        ;
    *at = wait.next;
    tally_status_t status = queue_result(queue, ticket, lanes);
    progress_unlock(progress);
    return status;
}

tally_status_t progress_wait(struct progress *progress, struct queue *queue,
                             uint64_t ticket, int64_t *lanes)
{
    int64_t spin_us = spin_allowed(progress);
    enum wait_phase phase = wait_phase_at(0, spin_us);
    tally_status_t status = TALLY_NOT_YET;
    unsigned moves = 1;
    int64_t begin_us = 0; // read late: a short wait reads no clock

    for (; phase != WAIT_SLEEP; moves++) {
        bool look = moves % MOVES_PER_CHECK == 0;
        int64_t now_us = look ? clock_now_us() : 0;

        if (engine_try_lock(progress)) {
            move_in_line(progress);
            if (look)
                engine_check(progress, now_us);
            engine_tell_waits(progress);
            status = queue_result(queue, ticket, lanes);
            progress_unlock(progress);
            sleeper_wake(progress->sleeper);
        }
        if (status != TALLY_NOT_YET)
            break;
        if (look) {
            if (begin_us == 0)
                begin_us = now_us;
            phase = wait_phase_at(now_us - begin_us, spin_us);
            // At exit the thread moves nothing any more.
            if (phase == WAIT_SLEEP && park_is_asked(&progress->thread))
                phase = WAIT_YIELD;
        }
        if (phase == WAIT_SPIN)
            engine_relax();
        else
            sched_yield();
    }
    if (phase == WAIT_SLEEP)
        return sleep_until_done(progress, queue, ticket, lanes);
    spin_learn(progress, phase, moves);
    return status;
}

void progress_poll(struct progress *progress)
{
    progress_lock(progress);
    move_in_line(progress);
    engine_tell_waits(progress);
    progress_unlock(progress);
    sleeper_wake(progress->sleeper);
}
