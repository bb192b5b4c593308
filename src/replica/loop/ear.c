// SPDX-License-Identifier: BSD-3-Clause
// See ear.h. An epoll descriptor: a change of what it waits for takes effect on
// who sleeps on it, which poll cannot do.
#include "replica/loop/ear.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

static bool control(const struct replica_ear *ear, int what, int fd,
                    uint32_t events)
{
    struct epoll_event event = {.events = events};

    return epoll_ctl(ear->fd, what, fd, &event) == 0;
}

bool replica_ear_open(struct replica_ear *ear)
{
    ear->heard = -1;
    ear->fd = epoll_create1(EPOLL_CLOEXEC);
    ear->bell = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    return ear->fd >= 0 && ear->bell >= 0 &&
           control(ear, EPOLL_CTL_ADD, ear->bell, EPOLLIN);
}

void replica_ear_close(struct replica_ear *ear)
{
    if (ear->fd >= 0)
        close(ear->fd);
    if (ear->bell >= 0)
        close(ear->bell);
    ear->fd = -1;
    ear->bell = -1;
}

bool replica_ear_listen(struct replica_ear *ear, int fd)
{
    replica_ear_ring(ear, 0);
    if (ear->heard >= 0 && ear->heard != fd)
        control(ear, EPOLL_CTL_DEL, ear->heard, 0);
    ear->heard = fd;
    // One that was closed meanwhile is not there any more.
    return control(ear, EPOLL_CTL_MOD, fd, EPOLLIN) ||
           control(ear, EPOLL_CTL_ADD, fd, EPOLLIN);
}

void replica_ear_stop(struct replica_ear *ear)
{
    control(ear, EPOLL_CTL_MOD, ear->heard, 0);
}

void replica_ear_ring(struct replica_ear *ear, int64_t us)
{
    const struct itimerspec when = {
        .it_value = {us / 1000000, us % 1000000 * 1000}};

    timerfd_settime(ear->bell, 0, &when, NULL);
}
