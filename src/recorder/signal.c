// SPDX-License-Identifier: BSD-3-Clause
// SIGUSR1: the handler only writes to eventfds; threads do the rest.
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

#include "recorder/state.h"

#define RECORDERS_MAX 64

// Each is an eventfd plus one; 0: free. A handler may run at any time.
static _Atomic int wakes[RECORDERS_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int users;
static struct sigaction before;

static void handle(int number)
{
    const uint64_t one = 1;
    int saved = errno;

    (void)number;
    for (int i = 0; i < RECORDERS_MAX; i++) {
        int fd = atomic_load(&wakes[i]) - 1;
        if (fd >= 0)
            (void)!write(fd, &one, sizeof(one));
    }
    errno = saved;
}

static void take_signal(void)
{
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};

    sigemptyset(&action.sa_mask);
    sigaction(SIGUSR1, NULL, &before);
    if (before.sa_handler == SIG_DFL)
        sigaction(SIGUSR1, &action, NULL);
}

static void give_signal_back(void)
{
    struct sigaction now;

    sigaction(SIGUSR1, NULL, &now);
    if (now.sa_handler == handle)
        sigaction(SIGUSR1, &before, NULL);
}

void recorder_signal_add(int event_fd)
{
    int i = 0;

    pthread_mutex_lock(&lock);
    while (i < RECORDERS_MAX && atomic_load(&wakes[i]) != 0)
        i++;
    // One too many is not told.
    if (i < RECORDERS_MAX)
        atomic_store(&wakes[i], event_fd + 1);
    if (users++ == 0)
        take_signal();
    pthread_mutex_unlock(&lock);
}

void recorder_signal_remove(int event_fd)
{
    pthread_mutex_lock(&lock);
    if (--users == 0)
        give_signal_back();
    for (int i = 0; i < RECORDERS_MAX; i++)
        if (atomic_load(&wakes[i]) == event_fd + 1)
            atomic_store(&wakes[i], 0);
    pthread_mutex_unlock(&lock);
}
