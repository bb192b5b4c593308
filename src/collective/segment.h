// SPDX-License-Identifier: BSD-3-Clause
// A piece of shared memory between processes of one node. It says nothing of
// what is in it, nor of who may open it.
//
// A name stays in /dev/shm only between create and unlink, which a group does
// as soon as all have mapped or failed. A process killed just then leaves its
// segment behind: files /dev/shm/tally.* of no living job may be removed.
#ifndef COLLECTIVE_SEGMENT_H
#define COLLECTIVE_SEGMENT_H

#include <stddef.h>
#include <tally/tally.h>

#define SEGMENT_NAME_BYTES 32 // with its terminating zero

struct segment {
    void *memory; // zeroed at creation; NULL: none
    size_t bytes;
    char name[SEGMENT_NAME_BYTES]; // "" once unlinked, or if another made it
};

// Makes a segment under a random name, with all its memory there, so that a
// full /dev/shm is an error here and not a signal later. Errors: MEMORY,
// SYSTEM, with errno set.
tally_status_t segment_create(size_t bytes, struct segment *out);

// Maps a segment that another process made with as many bytes. Errors: SYSTEM.
tally_status_t segment_open(const char *name, size_t bytes,
                            struct segment *out);

// Takes the name away; who has mapped the segment keeps it.
void segment_unlink(struct segment *segment);

// Unlinks and unmaps. A zeroed or closed segment: nothing.
void segment_close(struct segment *segment);

#endif
