// SPDX-License-Identifier: BSD-3-Clause
// What is wrong with the ways between ranks: backends, pairs that do not reach
// each other, pairs that are slow.
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "doctor/checks/checks.h"

// A pair is slow at so many times the median of its kind, and so much above it.
#define SLOW_TIMES 4
#define SLOW_US 10
// Fewer pairs have no median worth the name.
#define MEDIAN_PAIRS_MIN 3
// Pairs named one by one.
#define PAIRS_NAMED 8

static int32_t users_of(const struct job *job, const char *name)
{
    int32_t users = 0;

    for (int32_t i = 0; i < job->count; i++)
        users += facts_transport_usable(&job->facts[i], name);
    return users;
}

// A backend that some ranks have and others lack: `auto` passes over it.
void checks_backends(const struct check *check, const struct job *job,
                     struct findings *out)
{
    for (int t = 0; t < TRANSPORTS_MAX; t++) {
        const struct facts_transport *first = &job->facts[0].transports[t];
        const char *name = first->name;
        int32_t users = users_of(job, name);

        if (*name == '\0' || first->wanted == 0)
            continue;
        for (int32_t i = 0; i < job->count; i++) {
            const struct facts_transport *here =
                facts_transport_find(&job->facts[i], name);

            if (facts_transport_usable(&job->facts[i], name) || users == 0)
                continue;
            findings_add(out, check, check->severity, job->ranks[i],
                         "cannot use %s, which %d of %d ranks can: %s", name,
                         (int)users, (int)job->count,
                         here == NULL        ? "its TALLY_TRANSPORT is another"
                         : here->wanted == 0 ? "its TALLY_TRANSPORT leaves it "
                                               "out"
                                             : here->reason);
        }
        if (users == job->count)
            findings_add(out, check, SEVERITY_OK, -1, "%s: %s", name,
                         first->version);
    }
}

// Whether there is a way between nodes, where one is needed.
void checks_transport(const struct check *check, const struct job *job,
                      struct findings *out)
{
    bool needed = job->joined && job->node_of != NULL && job->node_count > 1;

    if (job->joined && job->count > 1 && job->node_of != NULL && !needed) {
        findings_add(out, check, SEVERITY_OK, -1,
                     "none is needed: one node holds all ranks");
        return;
    }
    if (needed && job->transport != NULL &&
        users_of(job, job->transport) == job->count) {
        findings_add(out, check, SEVERITY_OK, -1, "%s, which all ranks have",
                     job->transport);
        return;
    }
    for (int32_t i = 0; needed && i < job->count; i++)
        for (int t = 0; t < TRANSPORTS_MAX; t++) {
            const struct facts_transport *one = &job->facts[i].transports[t];

            if (one->name[0] != '\0' && one->wanted != 0 && one->usable == 0)
                findings_add(out, check, check->severity, job->ranks[i],
                             "%s: %s", one->name, one->reason);
        }
    if (needed && job->facts[0].transports[0].wanted == 0)
        findings_add(out, check, check->severity, -1,
                     "TALLY_TRANSPORT=shm, and the ranks are on %d nodes",
                     (int)job->node_count);
}

// ---------------------------------------------------------------------- pairs

static bool is_unreached(const struct job *job, int32_t from, int32_t to)
{
    return job_pair_us(job, from, to) == PAIRS_UNREACHED ||
           job_pair_us(job, to, from) == PAIRS_UNREACHED;
}

static const char *way_of(const struct job *job, int32_t a, int32_t b)
{
    if (job->node_of[job->members[a]] == job->node_of[job->members[b]])
        return "shared memory";
    return job->transport != NULL ? job->transport : "any transport";
}

// Members that reach none of those they asked: `lonely` gets them.
static void lonely_find(const struct job *job, bool *lonely)
{
    for (int32_t a = 0; a < job->member_count; a++) {
        int32_t asked = 0, unreached = 0;

        for (int32_t b = 0; b < job->member_count; b++) {
            asked += job_pair_us(job, a, b) != PAIRS_UNTRIED;
            unreached += is_unreached(job, a, b);
        }
        lonely[a] = asked > 1 && asked == unreached;
    }
}

static int32_t rank_of(const struct job *job, int32_t member)
{
    return job->ranks[job->members[member]];
}

static const char *reason_of(const struct job *job, int32_t a, int32_t b)
{
    if (job->rows[a].reason[0] != '\0')
        return job->rows[a].reason;
    return job->rows[b].reason[0] != '\0' ? job->rows[b].reason
                                          : "no answer came";
}

static void unreached_name(const struct check *check, const struct job *job,
                           const bool *lonely, struct findings *out)
{
    int32_t more = 0, named = 0;

    for (int32_t a = 0; a < job->member_count; a++)
        if (lonely[a])
            findings_add(out, check, check->severity, rank_of(job, a),
                         "reaches nobody and is reached by nobody over %s: %s",
                         way_of(job, a, a == 0 ? 1 : 0), reason_of(job, a, a));
    for (int32_t a = 0; a < job->member_count; a++)
        for (int32_t b = a + 1; b < job->member_count; b++) {
            if (!is_unreached(job, a, b) || lonely[a] || lonely[b])
                continue;
            if (named++ >= PAIRS_NAMED)
                more++;
            else
                findings_add(
                    out, check, check->severity, -1,
                    "ranks %d (%s) and %d (%s) do not reach each "
                    "other over %s: %s",
                    (int)rank_of(job, a), job->facts[job->members[a]].host,
                    (int)rank_of(job, b), job->facts[job->members[b]].host,
                    way_of(job, a, b), reason_of(job, a, b));
        }
    if (more > 0)
        findings_add(out, check, check->severity, -1,
                     "and so %d more pairs, see the matrix", (int)more);
}

static void pairs_count(const struct job *job, int32_t *tried,
                        int32_t *unreached)
{
    *tried = *unreached = 0;
    for (int32_t a = 0; job->rows != NULL && a < job->member_count; a++)
        for (int32_t b = a + 1; b < job->member_count; b++) {
            *tried += job_pair_us(job, a, b) != PAIRS_UNTRIED;
            *unreached += is_unreached(job, a, b);
        }
}

void checks_reach(const struct check *check, const struct job *job,
                  struct findings *out)
{
    int32_t tried, unreached;

    pairs_count(job, &tried, &unreached);
    if (tried == 0)
        return;
    if (unreached == 0) {
        findings_add(out, check, SEVERITY_OK, -1,
                     "all that were tried reach each other: %d pairs",
                     (int)tried);
        return;
    }
    bool *lonely = calloc((size_t)job->member_count, sizeof(*lonely));
    if (lonely == NULL)
        return;
    lonely_find(job, lonely);
    unreached_name(check, job, lonely, out);
    free(lonely);
}

// A transport that takes the wrong devices where it may choose.
void checks_interface(const struct check *check, const struct job *job,
                      struct findings *out)
{
    if (job->by_interface)
        findings_add(out, check, check->severity, -1,
                     "the devices that %s chooses itself do not join all "
                     "nodes; the interfaces of the rendezvous do, at rank %d "
                     "%s (%s)",
                     job->transport, (int)job->ranks[job->index],
                     job->interface.name, job->interface.address);
}

// ----------------------------------------------------------------- slow pairs

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

// The better of both directions; PAIRS_* where there is none.
static float pair_us(const struct job *job, int32_t a, int32_t b)
{
    float there = job_pair_us(job, a, b), back = job_pair_us(job, b, a);

    return there < back ? there : back;
}

static bool is_of_kind(const struct job *job, int32_t a, int32_t b, bool local)
{
    return (job->node_of[job->members[a]] == job->node_of[job->members[b]]) ==
               local &&
           pair_us(job, a, b) >= 0;
}

// 0: there are too few pairs.
static float median_us(const struct job *job, bool local)
{
    size_t members = (size_t)job->member_count;
    float *all = calloc(members * members, sizeof(*all));
    float median = 0;
    size_t count = 0;

    for (int32_t a = 0; all != NULL && a < job->member_count; a++)
        for (int32_t b = a + 1; b < job->member_count; b++)
            if (is_of_kind(job, a, b, local))
                all[count++] = pair_us(job, a, b);
    if (count >= MEDIAN_PAIRS_MIN) {
        qsort(all, count, sizeof(*all), by_size);
        median = all[count / 2];
    }
    free(all);
    return median;
}

static void slow_find(const struct check *check, const struct job *job,
                      bool local, struct findings *out)
{
    float median = median_us(job, local);

    for (int32_t a = 0; median > 0 && a < job->member_count; a++)
        for (int32_t b = a + 1; b < job->member_count; b++) {
            float us = pair_us(job, a, b);

            if (is_of_kind(job, a, b, local) && us > SLOW_TIMES * median &&
                us > median + SLOW_US)
                findings_add(out, check, check->severity, -1,
                             "ranks %d and %d take %.1f us one way over %s, "
                             "the median is %.1f us",
                             (int)rank_of(job, a), (int)rank_of(job, b),
                             (double)us, way_of(job, a, b), (double)median);
        }
}

void checks_slow(const struct check *check, const struct job *job,
                 struct findings *out)
{
    size_t before = out->count;
    int32_t tried, unreached;

    pairs_count(job, &tried, &unreached);
    if (tried == unreached)
        return;
    if (job_is_crowded(job)) {
        findings_add(out, check, SEVERITY_OK, -1,
                     "not judged: ranks outnumber processors");
        return;
    }
    slow_find(check, job, true, out);
    slow_find(check, job, false, out);
    if (out->count == before)
        findings_add(out, check, SEVERITY_OK, -1,
                     "no pair is much slower than the others");
}
