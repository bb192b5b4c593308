// SPDX-License-Identifier: BSD-3-Clause
// See segment.h.
#include "collective/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"

#define WITHOUT "(TALLY_NODE_SHM=0 does without)"

// Two of the same 64 random bits: not before 2^32 segments.
static tally_status_t name_make(char name[SEGMENT_NAME_BYTES])
{
    uint64_t number;

    if (getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number))
        return core_fail(TALLY_ERR_SYSTEM, "no random number: %s",
                         strerror(errno));
    snprintf(name, SEGMENT_NAME_BYTES, "/tally.%016" PRIx64, number);
    return TALLY_OK;
}

static tally_status_t memory_reserve(int file, size_t bytes)
{
    int error;

    do {
        error = posix_fallocate(file, 0, (off_t)bytes);
    } while (error == EINTR);
    if (error == 0)
        return TALLY_OK;
    errno = error;
    return core_fail(error == ENOSPC ? TALLY_ERR_MEMORY : TALLY_ERR_SYSTEM,
                     "no room for %zu bytes in /dev/shm: %s " WITHOUT, bytes,
                     strerror(error));
}

// MAP_POPULATE: the first reduction should not be the one that faults pages in.
static tally_status_t memory_map(int file, size_t bytes, void **out)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_POPULATE, file, 0);

    if (memory == MAP_FAILED)
        return core_fail(errno == ENOMEM ? TALLY_ERR_MEMORY : TALLY_ERR_SYSTEM,
                         "could not map %zu bytes of shared memory: %s", bytes,
                         strerror(errno));
    *out = memory;
    return TALLY_OK;
}

tally_status_t segment_create(size_t bytes, struct segment *out)
{
    struct segment segment = {.bytes = bytes};
    tally_status_t status;

    status = name_make(segment.name);
    if (status != TALLY_OK)
        return status;
    int file = shm_open(segment.name, O_CREAT | O_EXCL | O_RDWR, 0600);
    if (file < 0)
        return core_fail(TALLY_ERR_SYSTEM,
                         "could not create the shared memory %s: %s " WITHOUT,
                         segment.name, strerror(errno));
    status = memory_reserve(file, bytes);
    if (status == TALLY_OK)
        status = memory_map(file, bytes, &segment.memory);
    int error = errno;
    close(file);
    if (status != TALLY_OK)
        shm_unlink(segment.name);
    else
        *out = segment;
    errno = error;
    return status;
}

// A shorter file would answer the first touch of what it lacks with a signal.
static tally_status_t size_check(int file, const char *name, size_t bytes)
{
    struct stat stat;

    if (fstat(file, &stat) != 0)
        return core_fail(TALLY_ERR_SYSTEM, "could not stat %s: %s", name,
                         strerror(errno));
    if (stat.st_size != (off_t)bytes)
        return core_fail(TALLY_ERR_SYSTEM,
                         "the shared memory %s has %lld bytes, not %zu", name,
                         (long long)stat.st_size, bytes);
    return TALLY_OK;
}

tally_status_t segment_open(const char *name, size_t bytes, struct segment *out)
{
    struct segment segment = {.bytes = bytes};
    tally_status_t status;

    int file = shm_open(name, O_RDWR, 0);
    if (file < 0)
        return core_fail(TALLY_ERR_SYSTEM,
                         "could not open the shared memory %s: %s", name,
                         strerror(errno));
    status = size_check(file, name, bytes);
    if (status == TALLY_OK)
        status = memory_map(file, bytes, &segment.memory);
    close(file);
    if (status == TALLY_OK)
        *out = segment;
    return status;
}

void segment_unlink(struct segment *segment)
{
    if (segment->name[0] == '\0')
        return;
    shm_unlink(segment->name);
    segment->name[0] = '\0';
}

void segment_close(struct segment *segment)
{
    segment_unlink(segment);
    if (segment->memory != NULL)
        munmap(segment->memory, segment->bytes);
    segment->memory = NULL;
}
