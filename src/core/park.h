// SPDX-License-Identifier: BSD-3-Clause
// The threads of Tally: how they start and end, and how they are put to rest
// when the process exits and nobody has closed. Else they would run on while
// libc runs the destructors of what they call. It does not know what they do.
#ifndef CORE_PARK_H
#define CORE_PARK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

// Begins as 0, and stays where it is from park_start to park_join.
struct park_thread {
    pthread_t id;
    bool runs; // the owner's: it was started, and not joined
    void *(*run)(void *argument);
    void (*wake)(void *argument);
    void *argument;
    atomic_bool asked; // to rest
    bool joined;       // it is waited for
    bool rests;        // or has ended; under the lock of park.c
    struct park_thread *next;
};

// Starts `run`, with all signals blocked: they are the host program's, whose
// own threads take them. `wake` ends what the thread may sleep in; any thread
// calls it, under a lock, so it does not block. Returns 0 or an errno.
int park_start(struct park_thread *thread, void *(*run)(void *argument),
               void (*wake)(void *argument), void *argument);

// Once it was told to end, and woken. One that rests goes on, to its end.
// Nothing where it does not run.
void park_join(struct park_thread *thread);

// Whether it is to come to park_here soon. Who is about to sleep asks, after
// what makes its wake count.
bool park_is_asked(const struct park_thread *thread);

// The thread's own, in its loop, where it has no lock and is in no call of a
// transport or of the host program. Does not return if it is asked to rest,
// unless park_join is called.
void park_here(struct park_thread *thread);

// Around what closes transports, which other threads do without a lock: the
// handler waits for its end, too. Pairs may nest. False: it is too late, and
// the caller leaves it, with what it has, to the end of the process.
bool park_call_begins(void);
void park_call_ends(void);

// Wherever libraries that threads call may just have been loaded. exit() calls
// handlers in the order opposite to that in which they were registered, and
// libraries register some: so Tally's is registered again.
void park_at_exit(void);

// The handler: asks all threads but the caller to rest, and waits for them, not
// long. Returns whether all do; the second time without asking or waiting.
bool park_all(void);

// Whether the process exits, and the caller is not the thread that does it:
// then it may call neither the host program nor a transport.
bool park_silences(void);

#endif
