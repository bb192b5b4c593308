// SPDX-License-Identifier: BSD-3-Clause
// See sleeper.h. Words are slept on by futex_waitv, descriptors by poll; one
// system call cannot do both.
#include "order/sleeper.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/error.h"

// The first of each is for sleeper_wake.
#define WORDS_MAX 16
#define FDS_MAX 9

// What Linux 5.16 brought; older headers lack it.
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#define WORD_U32 2u
#define WORD_PRIVATE 128u

struct word {
    uint64_t value;
    uint64_t address;
    uint32_t flags;
    uint32_t reserved;
};

struct sleeper {
    atomic_uint asleep; // 1 from begin until woken
    atomic_uint rouses;
    int wake_fd;
    int word_count;
    int fd_count;
    struct word words[WORDS_MAX];
    struct pollfd fds[FDS_MAX];
};

tally_status_t sleeper_create(struct sleeper **out)
{
    struct sleeper *sleeper = calloc(1, sizeof(*sleeper));

    if (sleeper == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for progress");
    sleeper->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (sleeper->wake_fd < 0) {
        free(sleeper);
        return core_fail(TALLY_ERR_SYSTEM, "no descriptor for progress: %s",
                         strerror(errno));
    }
    *out = sleeper;
    return TALLY_OK;
}

void sleeper_free(struct sleeper *sleeper)
{
    if (sleeper == NULL)
        return;
    close(sleeper->wake_fd);
    free(sleeper);
}

static void set_word(struct word *word, _Atomic uint32_t *address,
                     uint32_t value, uint32_t flags)
{
    *word = (struct word){
        .value = value,
        .address = (uintptr_t)address,
        .flags = WORD_U32 | flags,
    };
}

void sleeper_begin(struct sleeper *sleeper)
{
    uint64_t wakes;

    // Left by who woke it from a sleep on words.
    if (read(sleeper->wake_fd, &wakes, sizeof(wakes)) < 0)
        wakes = 0;
    set_word(&sleeper->words[0], &sleeper->asleep, 1, WORD_PRIVATE);
    sleeper->fds[0] = (struct pollfd){sleeper->wake_fd, POLLIN, 0};
    sleeper->word_count = 1;
    sleeper->fd_count = 1;
    atomic_store(&sleeper->asleep, 1);
}

bool sleeper_add_word(struct sleeper *sleeper, _Atomic uint32_t *word,
                      uint32_t seen)
{
    if (sleeper->fd_count > 1 || sleeper->word_count == WORDS_MAX)
        return false;
    set_word(&sleeper->words[sleeper->word_count++], word, seen, 0);
    return true;
}

bool sleeper_add_fd(struct sleeper *sleeper, int fd)
{
    if (sleeper->word_count > 1 || sleeper->fd_count == FDS_MAX)
        return false;
    sleeper->fds[sleeper->fd_count++] = (struct pollfd){fd, POLLIN, 0};
    return true;
}

static struct timespec to_timespec(int64_t us)
{
    return (struct timespec){us / 1000000, us % 1000000 * 1000};
}

static void sleep_on_fds(struct sleeper *sleeper, int64_t us)
{
    struct timespec time = to_timespec(us);

    ppoll(sleeper->fds, (nfds_t)sleeper->fd_count, us > 0 ? &time : NULL, NULL);
}

static void sleep_on_word(atomic_uint *word, uint32_t seen, int64_t us)
{
    struct timespec time = to_timespec(us);

    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, us > 0 ? &time : NULL,
            NULL, 0);
}

// A kernel without the call: naps, as if it could not be waited for.
static const int64_t nap_us = 1000;

static void sleep_on_words(struct sleeper *sleeper, int64_t us)
{
    struct timespec until = clock_after(CLOCK_MONOTONIC, us);
    long result = syscall(SYS_futex_waitv, sleeper->words, sleeper->word_count,
                          0, us > 0 ? &until : NULL, CLOCK_MONOTONIC);

    if (result < 0 && errno == ENOSYS)
        sleep_on_word(&sleeper->asleep, 1, us > 0 && us < nap_us ? us : nap_us);
}

void sleeper_sleep(struct sleeper *sleeper, int64_t us)
{
    if (sleeper->fd_count > 1)
        sleep_on_fds(sleeper, us);
    else if (sleeper->word_count > 1)
        sleep_on_words(sleeper, us);
    else
        sleep_on_word(&sleeper->asleep, 1, us);
    sleeper_stay(sleeper);
}

void sleeper_stay(struct sleeper *sleeper)
{
    atomic_store(&sleeper->asleep, 0);
}

uint32_t sleeper_rouses(struct sleeper *sleeper)
{
    return atomic_load(&sleeper->rouses);
}

void sleeper_nap(struct sleeper *sleeper, uint32_t rouses, int64_t us)
{
    sleep_on_word(&sleeper->rouses, rouses, us);
}

void sleeper_rouse(struct sleeper *sleeper)
{
    atomic_fetch_add(&sleeper->rouses, 1);
    syscall(SYS_futex, &sleeper->rouses, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void sleeper_wake(struct sleeper *sleeper)
{
    static const uint64_t one = 1;

    if (atomic_load(&sleeper->asleep) == 0 ||
        atomic_exchange(&sleeper->asleep, 0) == 0)
        return;
    syscall(SYS_futex, &sleeper->asleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    // It sleeps on one of the two. The counter cannot be full.
    if (write(sleeper->wake_fd, &one, sizeof(one)) < 0)
        return;
}
