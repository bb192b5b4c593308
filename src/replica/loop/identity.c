// SPDX-License-Identifier: BSD-3-Clause
// See identity.h.
#include "replica/loop/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "replica/names.h"

// The place of the start time behind the name of the program in /proc/PID/stat.
#define FIELDS_BEFORE_START 19

static bool read_file(const char *path, char *text, size_t bytes)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);

    if (file < 0)
        return false;
    ssize_t length = read(file, text, bytes - 1);
    close(file);
    text[length > 0 ? length : 0] = '\0';
    return length > 0;
}

static uint64_t boot_digest(void)
{
    char id[64];
    uint64_t digest = 0;

    if (!read_file("/proc/sys/kernel/random/boot_id", id, sizeof(id)))
        return 0;
    for (const char *at = id; *at != '\0'; at++)
        digest = replica_digest(digest, (unsigned char)*at);
    return digest;
}

// 0: there is no such process, or the kernel does not say.
static uint64_t start_of(int64_t pid)
{
    char path[64];
    char text[1024];

    snprintf(path, sizeof(path), "/proc/%lld/stat", (long long)pid);
    if (!read_file(path, text, sizeof(text)))
        return 0;
    // The name may hold anything but ends with the last parenthesis.
    const char *at = strrchr(text, ')');
    for (int i = 0; at != NULL && i <= FIELDS_BEFORE_START; i++)
        at = strchr(at + 1, ' ');
    return at != NULL ? strtoull(at + 1, NULL, 10) : 0;
}

void process_identity_read(struct process_identity *out)
{
    struct stat space;

    *out = (struct process_identity){.pid = getpid()};
    if (stat("/proc/self/ns/pid", &space) != 0)
        return;
    out->namespace = space.st_ino;
    out->started = start_of(out->pid);
    out->boot = boot_digest();
}

int process_identity_watch(const struct process_identity *identity, bool *gone)
{
    struct process_identity own;
    int pidfd = -1;

    *gone = false;
    process_identity_read(&own);
    if (own.boot == 0 || own.boot != identity->boot || own.started == 0 ||
        own.namespace != identity->namespace)
        return -1;
#ifdef SYS_pidfd_open
    pidfd = (int)syscall(SYS_pidfd_open, (pid_t)identity->pid, 0);
#else
    errno = ENOSYS;
#endif
    // Read after the pidfd was opened: what it says is of that process.
    *gone = (pidfd < 0 && errno == ESRCH) ||
            (pidfd >= 0 && start_of(identity->pid) != identity->started);
    if (*gone && pidfd >= 0) {
        close(pidfd);
        pidfd = -1;
    }
    return pidfd;
}

bool process_has_ended(int pidfd)
{
    struct pollfd poll_one = {.fd = pidfd, .events = POLLIN};

    return poll(&poll_one, 1, 0) > 0;
}
