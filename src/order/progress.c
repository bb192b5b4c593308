// SPDX-License-Identifier: BSD-3-Clause
// See progress.h.
#include "order/progress.h"

#include <assert.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/error.h"
#include "core/log.h"

#define TRANSPORTS_MAX 8

// The clock is read once in so many moves of a waiting thread.
#define MOVES_PER_CHECK 64
// One wait in so many spins as long as is configured.
#define WAITS_PER_TRIAL 64
// A wait this long is not worth a processor any more.
static const int64_t nap_after_us = 20000;
static const int64_t nap_shortest_us = 50;
static const int64_t nap_longest_us = 1000;
// So long after the last reduction the thread goes to sleep.
static const int64_t sleep_after_us = 1000000;
// Transports want a look now and then, even asleep.
static const int64_t sleep_with_transport_us = 10000;

struct progress {
    pthread_mutex_t lock;
    struct progress_params params;
    struct queue *queues;
    struct {
        const tally_transport_ops_t *ops;
        tally_transport_t *transport;
    } transports[TRANSPORTS_MAX];
    int transport_count;
    pthread_t thread;
    bool thread_runs;
    atomic_bool stop;
    atomic_int waiters; // threads that move in line until something is done
    atomic_uint asleep; // futex: 1 while the thread sleeps
    atomic_int spin_us; // what a waiting thread spins now, see spin_learn
    atomic_uint waits;  // counted, for spin_learn
};

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

static void nap(int64_t us)
{
    struct timespec time = {us / 1000000, us % 1000000 * 1000};

    nanosleep(&time, NULL);
}

void progress_lock(struct progress *progress)
{
    core_log_hold();
    pthread_mutex_lock(&progress->lock);
}

static bool progress_try_lock(struct progress *progress)
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

static bool any_pending(const struct progress *progress)
{
    for (struct queue *q = progress->queues; q != NULL; q = q->next)
        if (queue_pending(q))
            return true;
    return false;
}

// One move of everything. The lock is held.
static void move(struct progress *progress)
{
    for (int i = 0; i < progress->transport_count; i++) {
        // A failed transport shows in the requests of its queues.
        (void)progress->transports[i].ops->progress(
            progress->transports[i].transport);
    }
    for (struct queue *q = progress->queues; q != NULL; q = q->next)
        queue_advance(q);
}

static void check(struct progress *progress, int64_t now_us)
{
    for (struct queue *q = progress->queues; q != NULL; q = q->next)
        queue_check(q, now_us);
}

static void wake_thread(struct progress *progress)
{
    if (atomic_exchange(&progress->asleep, 0) == 1)
        syscall(SYS_futex, &progress->asleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL,
                0);
}

// Until woken, or `us` passed; 0: no limit. Who says stop before `asleep` was
// set does not wake.
static void sleep_thread(struct progress *progress, int64_t us)
{
    struct timespec time = {us / 1000000, us % 1000000 * 1000};

    if (atomic_load(&progress->stop))
        return;
    syscall(SYS_futex, &progress->asleep, FUTEX_WAIT_PRIVATE, 1,
            us > 0 ? &time : NULL, NULL, 0);
    atomic_store(&progress->asleep, 0);
}

static void *thread_main(void *argument)
{
    struct progress *progress = argument;
    int64_t active_us = clock_now_us();
    int64_t nap_us = nap_shortest_us;

    prctl(PR_SET_NAME, "tally-progress");
    prctl(PR_SET_TIMERSLACK, 1000ul);
    while (!atomic_load(&progress->stop)) {
        bool pending = true;
        bool sleeps = false;
        int64_t sleep_us = 0;
        int64_t now_us = clock_now_us();

        if (progress_try_lock(progress)) {
            move(progress);
            check(progress, now_us);
            pending = any_pending(progress);
            sleeps = !pending && now_us - active_us > sleep_after_us;
            if (sleeps)
                atomic_store(&progress->asleep, 1);
            if (progress->transport_count > 0)
                sleep_us = sleep_with_transport_us;
            progress_unlock(progress);
        }
        if (sleeps) {
            sleep_thread(progress, sleep_us);
            continue;
        }
        if (pending) {
            active_us = now_us;
            nap_us = nap_shortest_us;
        } else if (nap_us < nap_longest_us) {
            nap_us *= 2;
        }
        nap(atomic_load(&progress->waiters) > 0 ? nap_longest_us : nap_us);
    }
    return NULL;
}

tally_status_t progress_create(const struct progress_params *params,
                               struct progress **out)
{
    struct progress *progress = calloc(1, sizeof(*progress));
    pthread_mutexattr_t attributes;

    if (progress == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for progress");
    progress->params = *params;
    atomic_init(&progress->spin_us, (int)params->spin_us);
    // The lock is held for well under a microsecond: spin before sleeping.
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(&progress->lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
    *out = progress;
    return TALLY_OK;
}

void progress_free(struct progress *progress)
{
    if (progress == NULL)
        return;
    assert(progress->queues == NULL && progress->transport_count == 0);
    if (progress->thread_runs) {
        atomic_store(&progress->stop, true);
        wake_thread(progress);
        pthread_join(progress->thread, NULL);
    }
    pthread_mutex_destroy(&progress->lock);
    free(progress);
}

// Signals are the host program's: its own threads take them.
tally_status_t progress_start(struct progress *progress)
{
    sigset_t all, before;

    if (progress->thread_runs)
        return TALLY_OK;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&progress->thread, NULL, thread_main, progress);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        return core_fail(TALLY_ERR_SYSTEM,
                         "cannot start the progress thread: %s",
                         strerror(error));
    progress->thread_runs = true;
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

tally_status_t progress_add_transport(struct progress *progress,
                                      const tally_transport_ops_t *ops,
                                      tally_transport_t *transport)
{
    tally_status_t status = TALLY_OK;

    progress_lock(progress);
    if (progress->transport_count == TRANSPORTS_MAX) {
        status = core_fail(TALLY_ERR_UNSUPPORTED,
                           "more than %d transports at once", TRANSPORTS_MAX);
    } else {
        int last = progress->transport_count++;
        progress->transports[last].ops = ops;
        progress->transports[last].transport = transport;
    }
    progress_unlock(progress);
    wake_thread(progress); // it may sleep without a limit
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
    uint64_t ticket = queue_post(queue, lanes, epoch);
    move(progress);
    progress_unlock(progress);
    if (atomic_load(&progress->asleep) == 1)
        wake_thread(progress);
    return ticket;
}

// How a waiting thread passes the time between two moves.
enum wait_phase { WAIT_SPIN, WAIT_YIELD, WAIT_NAP };

static enum wait_phase wait_phase_at(int64_t waited_us, int64_t spin_us)
{
    if (waited_us > nap_after_us)
        return WAIT_NAP;
    return waited_us >= spin_us ? WAIT_YIELD : WAIT_SPIN;
}

// How long this wait may spin. Once in a while it tries the whole time again.
static int64_t spin_allowed(struct progress *progress)
{
    unsigned waits = atomic_fetch_add(&progress->waits, 1);

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

static void wait_in_phase(enum wait_phase phase)
{
    switch (phase) {
    case WAIT_SPIN:
        relax();
        break;
    case WAIT_YIELD:
        sched_yield();
        break;
    case WAIT_NAP:
        nap(nap_shortest_us);
        break;
    }
}

tally_status_t progress_wait(struct progress *progress, struct queue *queue,
                             uint64_t ticket, int64_t *lanes)
{
    int64_t spin_us = spin_allowed(progress);
    enum wait_phase phase = wait_phase_at(0, spin_us);
    tally_status_t status = TALLY_NOT_YET;
    unsigned moves = 1;
    int64_t begin_us = 0; // read late: a short wait reads no clock

    atomic_fetch_add(&progress->waiters, 1);
    for (; status == TALLY_NOT_YET; moves++) {
        bool look = moves % MOVES_PER_CHECK == 0 || phase == WAIT_NAP;
        int64_t now_us = look ? clock_now_us() : 0;

        if (progress_try_lock(progress)) {
            move(progress);
            if (look)
                check(progress, now_us);
            status = queue_result(queue, ticket, lanes);
            progress_unlock(progress);
        }
        if (status != TALLY_NOT_YET)
            break;
        if (look) {
            if (begin_us == 0)
                begin_us = now_us;
            phase = wait_phase_at(now_us - begin_us, spin_us);
        }
        wait_in_phase(phase);
    }
    atomic_fetch_sub(&progress->waiters, 1);
    spin_learn(progress, phase, moves);
    return status;
}

void progress_poll(struct progress *progress)
{
    progress_lock(progress);
    move(progress);
    progress_unlock(progress);
}
