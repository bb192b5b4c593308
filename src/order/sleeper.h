// SPDX-License-Identifier: BSD-3-Clause
// How one thread sleeps until a word of shared memory changes, a descriptor is
// readable, another thread of the process wakes it, or a time has passed. It
// does not know what is waited for.
#ifndef ORDER_SLEEPER_H
#define ORDER_SLEEPER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tally/tally.h>

struct sleeper;

tally_status_t sleeper_create(struct sleeper **out);
void sleeper_free(struct sleeper *sleeper);

// The thread that will sleep. From here on a wake is not lost: what was changed
// before a wake is either seen by who looks after begin, or ends the sleep.
void sleeper_begin(struct sleeper *sleeper);

// What else ends the sleep. false: it cannot be waited for beside the others.
bool sleeper_add_word(struct sleeper *sleeper, _Atomic uint32_t *word,
                      uint32_t seen);
bool sleeper_add_fd(struct sleeper *sleeper, int fd);

// Sleeps, at most `us` (0: no limit).
void sleeper_sleep(struct sleeper *sleeper, int64_t us);

// Instead of sleeper_sleep, if there is something to do after all.
void sleeper_stay(struct sleeper *sleeper);

// A nap ends early if it is roused after the count of rouses was read.
uint32_t sleeper_rouses(struct sleeper *sleeper);
void sleeper_nap(struct sleeper *sleeper, uint32_t rouses, int64_t us);

// Any thread. A system call, whether it naps or not.
void sleeper_rouse(struct sleeper *sleeper);

// Any thread. Costs a load if nobody sleeps.
void sleeper_wake(struct sleeper *sleeper);

#endif
