// SPDX-License-Identifier: BSD-3-Clause
// See ear.h. An epoll descriptor of one: a change of what it waits for takes
// effect on who sleeps on it, which poll cannot do.
#include "replica/loop/ear.h"

#include <sys/epoll.h>
#include <unistd.h>

static bool control(const struct replica_ear *ear, int what, int fd,
                    uint32_t events)
{
    struct epoll_event event = {.events = events};

    return epoll_ctl(ear->fd, what, fd, &event) == 0;
}

bool replica_ear_open(struct replica_ear *ear)
{
    *ear =
        (struct replica_ear){.fd = epoll_create1(EPOLL_CLOEXEC), .heard = -1};
    return ear->fd >= 0;
}

void replica_ear_close(struct replica_ear *ear)
{
    if (ear->fd >= 0)
        close(ear->fd);
    ear->fd = -1;
}

bool replica_ear_listen(struct replica_ear *ear, int fd)
{
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

bool replica_ear_resume(struct replica_ear *ear)
{
    return control(ear, EPOLL_CTL_MOD, ear->heard, EPOLLIN);
}
