// SPDX-License-Identifier: BSD-3-Clause
// What is wrong between ranks: who did not come, what differs, who shares
// memory, and how far clocks are apart.
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "doctor/checks/checks.h"
#include "doctor/facts/note.h"

// Wall clocks serve logs only; deadlines go by monotonic ones.
#define SKEW_US ((int64_t)1000000)

static bool is_many(const struct job *job)
{
    return job->joined && job->count > 1;
}

void checks_meeting(const struct check *check, const struct job *job,
                    struct findings *out)
{
    if (job->failure[0] != '\0')
        findings_add(out, check, check->severity, -1, "%s", job->failure);
    else if (is_many(job))
        findings_add(out, check, SEVERITY_OK, -1, "all %d ranks came",
                     (int)job->facts[0].world_size);
}

void checks_absent(const struct check *check, const struct job *job,
                   struct findings *out)
{
    for (int32_t i = 0; i < job->absent_count; i++)
        findings_add(out, check, check->severity, job->absent[i],
                     "came, and then did not answer any more");
}

// The value of a line NAME=value, "" if it is not there.
static void value_of(const char *settings, const char *name, char *value,
                     size_t bytes)
{
    size_t length = strlen(name);
    char line[sizeof(((struct facts *)0)->settings)];

    value[0] = '\0';
    while (note_next(&settings, line, sizeof(line)))
        if (strncmp(line, name, length) == 0 && line[length] == '=')
            snprintf(value, bytes, "%s", line + length + 1);
}

void checks_settings(const struct check *check, const struct job *job,
                     struct findings *out)
{
    const char *at = job->facts[0].settings;
    char line[sizeof(job->facts[0].settings)];
    bool found = false;

    while (is_many(job) && note_next(&at, line, sizeof(line))) {
        char *first = strchr(line, '=');

        if (first == NULL)
            continue;
        *first++ = '\0';
        for (int32_t i = 1; i < job->count; i++) {
            char value[sizeof(line)];

            value_of(job->facts[i].settings, line, value, sizeof(value));
            if (strcmp(value, first) == 0)
                continue;
            findings_add(out, check, check->severity, job->ranks[i],
                         "%s is \"%s\", but \"%s\" at rank %d", line, value,
                         first, (int)job->ranks[0]);
            found = true;
        }
    }
    if (is_many(job) && !found)
        findings_add(out, check, SEVERITY_OK, -1,
                     "equal at all ranks where they must be");
}

// ------------------------------------------------------------------- versions

// One version at one rank; adds a finding if it is not the first rank's.
static bool compare(const struct check *check, const struct job *job, int32_t i,
                    const char *what, const char *first, const char *other,
                    struct findings *out)
{
    // What is not there is another check's.
    if (*first == '\0' || *other == '\0' || strcmp(first, other) == 0)
        return false;
    findings_add(out, check, check->severity, job->ranks[i],
                 "%s is %s, but %s at rank %d", what, other, first,
                 (int)job->ranks[0]);
    return true;
}

void checks_versions(const struct check *check, const struct job *job,
                     struct findings *out)
{
    const struct facts *first = &job->facts[0];
    bool found = false;

    for (int32_t i = 1; is_many(job) && i < job->count; i++) {
        const struct facts *other = &job->facts[i];

        found |= compare(check, job, i, "Tally", first->version, other->version,
                         out);
        found |= compare(check, job, i, "the kernel", first->kernel,
                         other->kernel, out);
        for (int t = 0; t < TRANSPORTS_MAX; t++) {
            const struct facts_transport *here = &first->transports[t];
            const struct facts_transport *there =
                facts_transport_find(other, here->name);

            if (here->name[0] != '\0' && there != NULL)
                found |= compare(check, job, i, here->name, here->version,
                                 there->version, out);
        }
    }
    if (is_many(job) && !found)
        findings_add(out, check, SEVERITY_OK, -1,
                     "Tally, its backends' libraries and kernels are the same");
}

// ---------------------------------------------------------------------- nodes

static const char *reason_of_split(const struct facts *a, const struct facts *b)
{
    if (a->node_shm == 0 || b->node_shm == 0)
        return "TALLY_NODE_SHM=0";
    if (strcmp(a->node_name, b->node_name) != 0)
        return "TALLY_NODE differs";
    if (a->found[FACTS_SHM][0] != '\0' || b->found[FACTS_SHM][0] != '\0')
        return "/dev/shm cannot be used, see there";
    if (a->shm_device != b->shm_device)
        return "each has a /dev/shm of its own, as in containers";
    return "what one writes to /dev/shm the other cannot read: they run as "
           "different users, or a security module forbids it";
}

void checks_nodes(const struct check *check, const struct job *job,
                  struct findings *out)
{
    bool found = false;

    if (!is_many(job) || job->node_of == NULL)
        return;
    // A rank and the first of its host that is on another node.
    for (int32_t i = 1; i < job->count; i++)
        for (int32_t k = 0; k < i; k++) {
            const struct facts *one = &job->facts[k];
            const struct facts *other = &job->facts[i];

            if (one->boot != other->boot)
                continue;
            if (job->node_of[k] != job->node_of[i]) {
                findings_add(out, check, check->severity, job->ranks[i],
                             "on the host of rank %d, but does not share "
                             "memory with it: %s",
                             (int)job->ranks[k], reason_of_split(one, other));
                found = true;
            }
            break;
        }
    if (!found)
        findings_add(out, check, SEVERITY_OK, -1,
                     "ranks of one host share memory: %d ranks, nodes: %d",
                     (int)job->count, (int)job->node_count);
}

// --------------------------------------------------------------------- clocks

void checks_clocks(const struct check *check, const struct job *job,
                   struct findings *out)
{
    int64_t widest = 0;
    bool found = false;

    if (!is_many(job) || job->clocks == NULL)
        return;
    for (int32_t i = 1; i < job->count; i++) {
        const struct clocks_bound *bound = &job->clocks[i];
        int64_t least = bound->low_us > 0    ? bound->low_us
                        : bound->high_us < 0 ? -bound->high_us
                                             : 0;
        int64_t most =
            bound->high_us > -bound->low_us ? bound->high_us : -bound->low_us;

        if (most > widest)
            widest = most;
        if (least < SKEW_US)
            continue;
        findings_add(out, check, check->severity, job->ranks[i],
                     "the clock is %.1f to %.1f s %s rank %d's",
                     (double)least * 1e-6, (double)most * 1e-6,
                     bound->low_us > 0 ? "ahead of" : "behind",
                     (int)job->ranks[0]);
        found = true;
    }
    if (!found)
        findings_add(out, check, SEVERITY_OK, -1,
                     "at most %.1f ms apart from rank %d's",
                     (double)widest * 1e-3, (int)job->ranks[0]);
}
