// SPDX-License-Identifier: BSD-3-Clause
// The sentence that goes with a failing status, one for each thread. Whoever
// decides that something failed says why, once; the public functions log it.
#ifndef CORE_ERROR_H
#define CORE_ERROR_H

#include <tally/tally.h>

// Records the sentence and returns `status`.
tally_status_t core_fail(tally_status_t status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#ifdef __clang_analyzer__
// It looks into one file at a time, and must know that this is never OK.
#define core_fail(status, ...) ((core_fail)(status, __VA_ARGS__), (status))
#endif

// Puts a sentence before the one recorded ("group \"dp\": ..."); returns
// `status`.
tally_status_t core_fail_within(tally_status_t status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

const char *core_error_text(void);

#endif
