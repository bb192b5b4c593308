// SPDX-License-Identifier: BSD-3-Clause
// What the checks found: sentences, with the ranks that they hold for.
#ifndef CHECKS_FINDINGS_H
#define CHECKS_FINDINGS_H

#include <stddef.h>
#include <stdint.h>

enum severity { SEVERITY_OK, SEVERITY_WARN, SEVERITY_FAIL };

struct check;

struct finding {
    const struct check *check;
    enum severity severity; // OK: what is said where nothing was found
    char *text;
    int32_t *ranks; // ascending; none: of no rank in particular
    int32_t count;
};

struct findings {
    struct finding *all;
    size_t count;
};

// One more; equal sentences of a check become one, with all their ranks. rank:
// -1 for none. What there is no memory for is lost.
void findings_add(struct findings *findings, const struct check *check,
                  enum severity severity, int32_t rank, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

enum severity findings_worst(const struct findings *findings);
void findings_free(struct findings *findings);

// "rank 3", "ranks 0-7, 9"; cut off with "..." where it does not fit.
void findings_ranks_text(const int32_t *ranks, int32_t count, char *text,
                         size_t bytes);

#endif
