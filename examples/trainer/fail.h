// SPDX-License-Identifier: BSD-3-Clause
// How the trainer says what went wrong: one sentence on stderr, by the function
// that found out. Its callers only clean up.
#ifndef TRAINER_FAIL_H
#define TRAINER_FAIL_H

#include <stdbool.h>

// Prints the sentence after "trainer: "; returns false.
bool trainer_fail(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

#endif
