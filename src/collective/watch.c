// SPDX-License-Identifier: BSD-3-Clause
// See watch.h.
#include "collective/watch.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/error.h"

// poll skips negative descriptors.
#define CLOSED (-1)

struct watch {
    struct health *health;
    int32_t count;  // watched processes
    bool no_pidfd;  // of some: asked by kill
    pid_t *pids;    // 0: reported
    int32_t *ranks; // world ranks
    struct pollfd *polls;
};

// By number: the C library may lack the wrapper where the kernel has the call.
static int process_open(pid_t pid)
{
#ifdef SYS_pidfd_open
    return (int)syscall(SYS_pidfd_open, pid, 0);
#else
    (void)pid;
    errno = ENOSYS;
    return -1;
#endif
}

static void process_add(struct watch *watch, pid_t pid, int32_t rank)
{
    int32_t index = watch->count++;
    int file = process_open(pid);

    watch->pids[index] = pid;
    watch->ranks[index] = rank;
    watch->polls[index] =
        (struct pollfd){.fd = file < 0 ? CLOSED : file, .events = POLLIN};
    watch->no_pidfd |= file < 0;
}

tally_status_t watch_open(const struct topology *topology,
                          const int32_t *world_ranks, struct health *health,
                          struct watch **out)
{
    size_t room = (size_t)topology->local_size;
    struct watch *watch = calloc(1, sizeof(*watch));

    if (watch == NULL)
        goto fail;
    watch->health = health;
    watch->pids = calloc(room, sizeof(*watch->pids));
    watch->ranks = calloc(room, sizeof(*watch->ranks));
    watch->polls = calloc(room, sizeof(*watch->polls));
    if (watch->pids == NULL || watch->ranks == NULL || watch->polls == NULL)
        goto fail;
    for (int32_t i = 0; i < topology->local_size; i++) {
        pid_t pid = topology->local_pids[i];

        if (pid != 0 && pid != getpid())
            process_add(watch, pid, world_ranks[topology->local_ranks[i]]);
    }
    *out = watch;
    return TALLY_OK;
fail:
    watch_close(watch);
    return core_fail(TALLY_ERR_MEMORY, "no memory to watch %zu processes",
                     room);
}

static void process_report(struct watch *watch, int32_t index)
{
    health_report(watch->health, watch->ranks[index], HEALTH_DIED);
    watch->pids[index] = 0;
    if (watch->polls[index].fd != CLOSED)
        close(watch->polls[index].fd);
    watch->polls[index].fd = CLOSED;
}

static bool process_gone(const struct watch *watch, int32_t index)
{
    return watch->pids[index] != 0 && watch->polls[index].fd == CLOSED &&
           kill(watch->pids[index], 0) != 0 && errno == ESRCH;
}

void watch_check(struct watch *watch)
{
    int ended = poll(watch->polls, (nfds_t)watch->count, 0);

    for (int32_t i = 0; ended > 0 && i < watch->count; i++) {
        if (watch->polls[i].fd != CLOSED && watch->polls[i].revents != 0)
            process_report(watch, i);
    }
    for (int32_t i = 0; watch->no_pidfd && i < watch->count; i++) {
        if (process_gone(watch, i))
            process_report(watch, i);
    }
}

void watch_close(struct watch *watch)
{
    if (watch == NULL)
        return;
    for (int32_t i = 0; i < watch->count; i++)
        if (watch->polls[i].fd != CLOSED)
            close(watch->polls[i].fd);
    free(watch->polls);
    free(watch->ranks);
    free(watch->pids);
    free(watch);
}
