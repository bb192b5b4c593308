// SPDX-License-Identifier: BSD-3-Clause
// Sentences in a text of fixed size, one a line. What there is no room for is
// left out.
#ifndef FACTS_NOTE_H
#define FACTS_NOTE_H

#include <stdbool.h>
#include <stddef.h>

// Appends a line; line ends within it become spaces.
void note_add(char *text, size_t bytes, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Copies the line at *at, as far as it fits, and moves *at on; false at the
// end. Begin with *at = text.
bool note_next(const char **at, char *line, size_t bytes);

#endif
