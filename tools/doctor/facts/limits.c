// SPDX-License-Identifier: BSD-3-Clause
// Shared memory, open files and locked memory: measured, then judged.
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include "bootstrap/bootstrap.h"
#include "collective/node.h"
#include "collective/segment.h"
#include "core/error.h"
#include "doctor/facts/facts.h"
#include "doctor/facts/note.h"

#define SHM "/dev/shm"
#define RDMA "/sys/class/infiniband"

// Beside connections: what a trainer and its libraries have open.
#define FILES_OF_OTHERS 64
// Connections that a backend keeps to each of its partners, some each.
#define FILES_OF_BACKEND 64
// Less locked memory than this, and queues of RDMA devices cannot be made.
#define MEMLOCK_NEEDED ((uint64_t)64 << 20)

static double mib(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

// A number with its unit, short: "24.0 GiB".
static const char *size_text(uint64_t bytes, char text[32])
{
    if (bytes == UINT64_MAX)
        snprintf(text, 32, "unlimited");
    else if (bytes >= (uint64_t)1 << 30)
        snprintf(text, 32, "%.1f GiB", mib(bytes) / 1024);
    else if (bytes >= 1 << 20)
        snprintf(text, 32, "%.1f MiB", mib(bytes));
    else
        snprintf(text, 32, "%.0f KiB", (double)bytes / 1024);
    return text;
}

static void shm_judge(const struct facts_limits *limits, struct facts *facts)
{
    char size[32], left[32], need[32];

    if (facts->node_shm == 0) {
        snprintf(facts->fine[FACTS_SHM], FACTS_FINE_BYTES,
                 "not used: TALLY_NODE_SHM=0");
        return;
    }
    if (limits->shm_errno != 0) {
        FACTS_FOUND(facts, FACTS_SHM, "there is no " SHM ": %s",
                    strerror(limits->shm_errno));
        return;
    }
    if (limits->shm_read_only)
        FACTS_FOUND(facts, FACTS_SHM, SHM " is mounted read-only");
    else if (limits->shm_free < limits->shm_needed)
        FACTS_FOUND(facts, FACTS_SHM,
                    SHM " has %s free of %s: a step of 64 channels among the "
                        "ranks of this host takes %s",
                    size_text(limits->shm_free, left),
                    size_text(limits->shm_bytes, size),
                    size_text(limits->shm_needed, need));
    else if (limits->shm_segment[0] != '\0')
        FACTS_FOUND(facts, FACTS_SHM, "%s", limits->shm_segment);
    snprintf(facts->fine[FACTS_SHM], FACTS_FINE_BYTES,
             SHM " has %s free of %s%s", size_text(limits->shm_free, left),
             size_text(limits->shm_bytes, size),
             limits->shm_no_exec ? " (noexec, which does no harm)" : "");
}

static void files_judge(const struct facts_limits *limits, struct facts *facts)
{
    if (limits->files < limits->files_needed)
        FACTS_FOUND(facts, FACTS_FILES,
                    "at most %llu open files are allowed (hard limit %llu), "
                    "and about %llu are needed",
                    (unsigned long long)limits->files,
                    (unsigned long long)limits->files_hard,
                    (unsigned long long)limits->files_needed);
    if (limits->files == UINT64_MAX)
        snprintf(facts->fine[FACTS_FILES], FACTS_FINE_BYTES,
                 "open files are unlimited");
    else
        snprintf(facts->fine[FACTS_FILES], FACTS_FINE_BYTES,
                 "%llu open files are allowed, about %llu are needed",
                 (unsigned long long)limits->files,
                 (unsigned long long)limits->files_needed);
}

static void memlock_judge(const struct facts_limits *limits,
                          struct facts *facts)
{
    char lock[32];

    size_text(limits->memlock, lock);
    if (limits->rdma[0] == '\0') {
        snprintf(facts->fine[FACTS_MEMLOCK], FACTS_FINE_BYTES,
                 "%s may be locked; no RDMA device needs it", lock);
        return;
    }
    if (limits->memlock < MEMLOCK_NEEDED)
        FACTS_FOUND(facts, FACTS_MEMLOCK,
                    "%s of memory may be locked, and there are RDMA devices: "
                    "%s",
                    lock, limits->rdma);
    snprintf(facts->fine[FACTS_MEMLOCK], FACTS_FINE_BYTES,
             "%s may be locked for %s", lock, limits->rdma);
}

void facts_limits_judge(const struct facts_limits *limits, struct facts *facts)
{
    shm_judge(limits, facts);
    files_judge(limits, facts);
    memlock_judge(limits, facts);
}

// ------------------------------------------------------------------ measuring

static uint64_t needed_of(int32_t local_size)
{
    const struct node_shape shape = {
        .local_size = local_size > 0 ? local_size : 1,
        .records = TALLY_CHANNELS_MAX,
        .max_lanes = TALLY_MAX_LANES_MAX,
    };

    return node_bytes(&shape);
}

static void shm_measure(struct facts_limits *limits)
{
    struct statvfs about;
    struct segment segment;

    if (statvfs(SHM, &about) != 0) {
        limits->shm_errno = errno;
        return;
    }
    limits->shm_bytes = (uint64_t)about.f_blocks * about.f_frsize;
    limits->shm_free = (uint64_t)about.f_bavail * about.f_frsize;
    limits->shm_read_only = (about.f_flag & ST_RDONLY) != 0;
    limits->shm_no_exec = (about.f_flag & ST_NOEXEC) != 0;
    if (segment_create(limits->shm_needed, &segment) == TALLY_OK)
        segment_close(&segment);
    else
        snprintf(limits->shm_segment, sizeof(limits->shm_segment), "%s",
                 core_error_text());
}

static void rdma_measure(struct facts_limits *limits)
{
    DIR *folder = opendir(RDMA);

    if (folder == NULL)
        return;
    for (const struct dirent *entry = readdir(folder); entry != NULL;
         entry = readdir(folder)) {
        size_t used = strlen(limits->rdma);
        size_t bytes = strlen(entry->d_name) + 1;

        if (entry->d_name[0] == '.' || used + 1 + bytes > sizeof(limits->rdma))
            continue;
        if (used > 0)
            limits->rdma[used++] = ' ';
        memcpy(limits->rdma + used, entry->d_name, bytes);
    }
    closedir(folder);
}

static uint64_t limit_of(rlim_t limit)
{
    return limit == RLIM_INFINITY ? UINT64_MAX : limit;
}

// The root hears every rank, and keeps its children.
static uint64_t files_needed(const struct identity *identity)
{
    uint64_t others = (uint64_t)(identity->world_size - 1);
    uint64_t connections = identity->rank == 0 || others < BOOTSTRAP_RADIX_MAX
                               ? others
                               : BOOTSTRAP_RADIX_MAX;

    return connections + FILES_OF_OTHERS + FILES_OF_BACKEND;
}

void facts_limits_read(struct self *self)
{
    struct facts_limits limits = {.rdma = ""};
    struct rlimit files = {0, 0};
    struct rlimit lock = {0, 0};

    limits.shm_needed = needed_of(self->identity.local_size);
    if (self->identified)
        limits.files_needed = files_needed(&self->identity);
    getrlimit(RLIMIT_NOFILE, &files);
    limits.files = limit_of(files.rlim_cur);
    limits.files_hard = limit_of(files.rlim_max);
    getrlimit(RLIMIT_MEMLOCK, &lock);
    limits.memlock = limit_of(lock.rlim_cur);
    shm_measure(&limits);
    rdma_measure(&limits);
    facts_limits_judge(&limits, &self->facts);
}
