// SPDX-License-Identifier: BSD-3-Clause
// See lines.h.
#include "run/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK_BYTES 65536
// A longer line is cut here, so that a rank that never ends a line cannot take
// all memory.
#define LINE_BYTES_MAX 1048576
// What a pipe may hold (the system's limit for users) in chunks. A process that
// outlives its rank and keeps writing must not keep us.
#define DRAIN_CHUNKS_MAX 16

int run_lines_open(struct run_lines *lines, int32_t rank, FILE *to,
                   int *write_end)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -1;
    if (fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0)
        goto close_ends;
    *lines = (struct run_lines){.from = ends[0], .to = to, .rank = rank};
    *write_end = ends[1];
    return 0;

close_ends:
    close(ends[0]);
    close(ends[1]);
    return -1;
}

static void line_write(struct run_lines *lines)
{
    if (lines->used == 0)
        return;
    fprintf(lines->to, "[%d] ", (int)lines->rank);
    fwrite(lines->line, 1, lines->used, lines->to);
    if (lines->line[lines->used - 1] != '\n')
        putc('\n', lines->to);
    lines->used = 0;
}

static void line_append(struct run_lines *lines, const char *text, size_t bytes)
{
    if (lines->capacity - lines->used < bytes) {
        size_t capacity = 2 * lines->capacity + bytes;
        char *line = realloc(lines->line, capacity);
        if (line == NULL)
            abort(); // the ranks end with us
        lines->line = line;
        lines->capacity = capacity;
    }
    memcpy(lines->line + lines->used, text, bytes);
    lines->used += bytes;
}

// Bytes read; 0: end of file, or nobody reads what we write; -1: nothing yet.
static ssize_t chunk_pass(struct run_lines *lines)
{
    char chunk[CHUNK_BYTES];
    ssize_t bytes = read(lines->from, chunk, sizeof(chunk));

    if (bytes < 0)
        return errno == EAGAIN || errno == EINTR ? -1 : 0;
    const char *end = chunk + bytes;
    for (const char *at = chunk, *next; at < end; at = next) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        next = newline != NULL ? newline + 1 : end;
        line_append(lines, at, (size_t)(next - at));
        if (newline != NULL || lines->used >= LINE_BYTES_MAX)
            line_write(lines);
    }
    return fflush(lines->to) == 0 ? bytes : 0;
}

bool run_lines_read(struct run_lines *lines)
{
    return chunk_pass(lines) != 0;
}

void run_lines_drain(struct run_lines *lines)
{
    for (int i = 0; i < DRAIN_CHUNKS_MAX && lines->from >= 0; i++) {
        if (chunk_pass(lines) <= 0)
            return;
    }
}

void run_lines_close(struct run_lines *lines)
{
    if (lines->from < 0)
        return;
    line_write(lines);
    fflush(lines->to);
    free(lines->line);
    close(lines->from);
    *lines = (struct run_lines){.from = -1};
}
