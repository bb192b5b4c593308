// SPDX-License-Identifier: BSD-3-Clause
// See park.h.
#include "core/park.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/clock.h"

// Of the handler: a thread may be in a call of the host program that does not
// return any more, or wait for a lock of who exits.
#define WAIT_US 1000000
#define REGISTERED_MAX 1000

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;      // CLOCK_MONOTONIC
static struct park_thread *threads; // from park_start to park_join
static int calls;                   // park_call_begins
static _Atomic pid_t home;          // the process that has these
static atomic_bool exiting;
static atomic_int registered; // times

static _Thread_local struct park_thread *self; // NULL: none of Tally's
static _Thread_local bool exits;               // it is in exit()
static _Thread_local int own_calls;

static void make_condition(void)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

// None of the threads is there, nor who may have had the lock. It is not taken
// before a fork: a handler of the host program's may close there.
static void begin_child(void)
{
    pthread_mutex_init(&lock, NULL);
    threads = NULL;
    calls = own_calls;
    self = NULL;
    exits = false;
    home = getpid();
    atomic_store(&exiting, false);
    make_condition();
}

static void begin(void)
{
    home = getpid();
    make_condition();
    pthread_atfork(NULL, NULL, begin_child);
}

// ------------------------------------------------------------------ a thread

// Also where a callback of the host program has ended the thread.
static void note_end(void *argument)
{
    struct park_thread *thread = argument;

    pthread_mutex_lock(&lock);
    thread->rests = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void *run(void *argument)
{
    struct park_thread *thread = argument;

    self = thread;
    pthread_cleanup_push(note_end, thread);
    thread->run(thread->argument);
    pthread_cleanup_pop(1);
    return NULL;
}

static void drop(const struct park_thread *thread)
{
    struct park_thread **at = &threads;

    pthread_mutex_lock(&lock);
    while (*at != NULL && *at != thread)
        at = &(*at)->next;
    if (*at != NULL)
        *at = thread->next;
    pthread_mutex_unlock(&lock);
}

int park_start(struct park_thread *thread, void *(*body)(void *argument),
               void (*wake)(void *argument), void *argument)
{
    sigset_t all, before;

    pthread_once(&once, begin);
    thread->run = body;
    thread->wake = wake;
    thread->argument = argument;
    thread->rests = thread->joined = false;
    pthread_mutex_lock(&lock);
    // Who exits may still open something: then it needs its threads.
    atomic_init(&thread->asked, park_silences());
    thread->next = threads;
    threads = thread;
    pthread_mutex_unlock(&lock);

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread->id, NULL, run, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    thread->runs = error == 0;
    if (error != 0)
        drop(thread);
    return error;
}

void park_join(struct park_thread *thread)
{
    if (!thread->runs)
        return;
    pthread_mutex_lock(&lock);
    thread->joined = true;
    atomic_store(&thread->asked, false);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    pthread_join(thread->id, NULL);
    drop(thread);
    thread->runs = false;
}

bool park_is_asked(const struct park_thread *thread)
{
    return atomic_load(&thread->asked);
}

void park_here(struct park_thread *thread)
{
    if (!park_is_asked(thread))
        return;
    pthread_mutex_lock(&lock);
    thread->rests = true;
    pthread_cond_broadcast(&changed);
    while (park_is_asked(thread))
        pthread_cond_wait(&changed, &lock);
    thread->rests = false;
    pthread_mutex_unlock(&lock);
}

bool park_call_begins(void)
{
    pthread_once(&once, begin);
    pthread_mutex_lock(&lock);
    bool may = own_calls > 0 || !park_silences();
    calls += may;
    own_calls += may;
    pthread_mutex_unlock(&lock);
    return may;
}

void park_call_ends(void)
{
    pthread_mutex_lock(&lock);
    calls--;
    own_calls--;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

// ---------------------------------------------------------------------- exit

static void ask_all(void)
{
    for (struct park_thread *one = threads; one != NULL; one = one->next) {
        if (one == self || one->joined)
            continue;
        atomic_store(&one->asked, true);
        one->wake(one->argument);
    }
}

static bool all_rest(void)
{
    for (const struct park_thread *one = threads; one != NULL; one = one->next)
        if (one != self && !one->rests)
            return false;
    return calls == own_calls;
}

static void await_all(void)
{
    const struct timespec until = clock_after(CLOCK_MONOTONIC, WAIT_US);

    while (!all_rest())
        if (pthread_cond_timedwait(&changed, &lock, &until) == ETIMEDOUT)
            return;
}

bool park_all(void)
{
    const struct timespec until = clock_after(CLOCK_REALTIME, WAIT_US);

    pthread_once(&once, begin);
    // A child made without fork()'s handlers.
    if (home != getpid())
        return true;
    bool first = !atomic_exchange(&exiting, true);
    exits = exits || first;
    // exit() may be called by a signal's handler, of a thread that has the
    // lock.
    if (pthread_mutex_timedlock(&lock, &until) != 0)
        return false;
    if (first) {
        ask_all();
        await_all();
    }
    bool all = all_rest();
    pthread_mutex_unlock(&lock);
    return all;
}

bool park_silences(void)
{
    return atomic_load(&exiting) && !exits;
}

static void handle_exit(void *argument)
{
    (void)argument;
    park_all();
}

// What atexit() is for a library (Itanium C++ ABI, 3.3.5): it is taken back,
// and called, when that is unloaded. Said in full, as ThreadSanitizer's
// atexit() has the handler stay, and exit() call what is not there any more.
int __cxa_atexit(void (*handler)(void *argument), void *argument,
                 void *library);
extern void *__dso_handle __attribute__((visibility("hidden")));

void park_at_exit(void)
{
    if (atomic_fetch_add(&registered, 1) < REGISTERED_MAX)
        __cxa_atexit(handle_exit, NULL, &__dso_handle);
}
