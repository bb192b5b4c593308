// SPDX-License-Identifier: BSD-3-Clause
// What ranks found by themselves: their sentences, merged.
#include <stdbool.h>
#include <string.h>

#include "doctor/checks/checks.h"
#include "doctor/facts/note.h"

static bool all_say(const struct job *job, enum facts_kind kind)
{
    for (int32_t i = 1; i < job->count; i++)
        if (strcmp(job->facts[i].fine[kind], job->facts[0].fine[kind]) != 0)
            return false;
    return true;
}

// A process alone needs no number.
static int32_t number_of(const struct job *job, int32_t index)
{
    return job->facts[index].world_size > 1 ? job->ranks[index] : -1;
}

void checks_kind(const struct check *check, const struct job *job,
                 struct findings *out)
{
    const char *fine = job->facts[0].fine[check->kind];
    char line[FACTS_FOUND_BYTES];
    bool found = false;

    for (int32_t i = 0; i < job->count; i++) {
        const char *at = job->facts[i].found[check->kind];

        while (note_next(&at, line, sizeof(line))) {
            findings_add(out, check, check->severity, number_of(job, i), "%s",
                         line);
            found = true;
        }
    }
    // Of the first only, where they differ: a line a rank would be many.
    if (!found && *fine != '\0')
        findings_add(out, check, SEVERITY_OK,
                     all_say(job, check->kind) ? -1 : number_of(job, 0), "%s",
                     fine);
}
