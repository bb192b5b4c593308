// SPDX-License-Identifier: BSD-3-Clause
// One output stream of one rank: read from a pipe, written on in whole lines
// that begin with "[rank] ". It does not wait for the pipe (ranks.c does).
#ifndef RUN_LINES_H
#define RUN_LINES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct run_lines {
    int from;              // the pipe, non-blocking; -1: closed
    FILE *to;              // borrowed
    int32_t rank;          // of the prefix
    char *line;            // what has come of the line under way
    size_t used, capacity; // bytes of it
};

// Makes the pipe; the rank writes to *write_end. -1: errno says why.
int run_lines_open(struct run_lines *lines, int32_t rank, FILE *to,
                   int *write_end);

// Writes on what is there, at most one chunk. False: nothing more will come.
bool run_lines_read(struct run_lines *lines);

// Writes on all that was written until now.
void run_lines_drain(struct run_lines *lines);

// Writes on an unfinished last line, with a newline added. Closed already:
// nothing.
void run_lines_close(struct run_lines *lines);

#endif
