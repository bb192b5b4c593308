// SPDX-License-Identifier: BSD-3-Clause
// See descriptors.h.
#include "transport/descriptors.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bootstrap/link/socket.h"

#define LISTENERS_MAX 32

// Calls `each` for every open descriptor that a set has room for.
static void walk(void (*each)(int fd, void *context), void *context)
{
    DIR *folder = opendir("/proc/self/fd");

    if (folder == NULL)
        return;
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        int fd = atoi(entry->d_name); // "." and "..": 0

        if (fd > 2 && fd < DESCRIPTORS_MAX && fd != dirfd(folder))
            each(fd, context);
    }
    closedir(folder);
}

static bool has(const struct descriptors *set, int fd)
{
    return (set->open[fd / 64] >> (fd % 64) & 1) != 0;
}

static void note(int fd, void *context)
{
    struct descriptors *set = context;

    set->open[fd / 64] |= (uint64_t)1 << (fd % 64);
}

void descriptors_note(struct descriptors *before)
{
    memset(before, 0, sizeof(*before));
    walk(note, before);
}

static void close_on_exec(int fd)
{
    int flags = fcntl(fd, F_GETFD);

    if (flags >= 0 && (flags & FD_CLOEXEC) == 0)
        (void)fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
}

struct listeners {
    const struct descriptors *before;
    uint16_t ports[LISTENERS_MAX];
    int count;
};

static void seal_new(int fd, void *context)
{
    struct listeners *listeners = context;
    struct socket_place own;

    if (!has(listeners->before, fd))
        close_on_exec(fd);
    if (listeners->count < LISTENERS_MAX && socket_listens(fd) &&
        (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0 && socket_own(fd, &own))
        listeners->ports[listeners->count++] = own.port;
}

static void seal_accepted(int fd, void *context)
{
    const struct listeners *listeners = context;
    struct socket_place own;

    if (!socket_own(fd, &own))
        return;
    for (int i = 0; i < listeners->count; i++)
        if (listeners->ports[i] == own.port)
            close_on_exec(fd);
}

void descriptors_seal(const struct descriptors *before)
{
    struct listeners listeners = {.before = before};

    walk(seal_new, &listeners);
    walk(seal_accepted, &listeners);
}
