// SPDX-License-Identifier: BSD-3-Clause
// All-reduces of many ranks over simulated networks, for curves of time against
// the number of ranks, and how they find each other. Prints JSON, the same at
// each call; bench/scale.py makes doc/scale.md of it. It measures a model and
// the shipping schedule on it, no machine.
//     scale [--max RANKS]
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/profiles.h"
#include "bench/scale_join.h"
#include "core/error.h"
#include "json.h"
#include "numeric/record.h"
#include "transport/sim/job.h"

#define RANKS_MAX 100000
#define TIMEOUT_NS 1000000000
// Up to so many ranks every radix is tried, beyond those that are drawn.
#define EVERY_RADIX_MAX 2048
#define PLANS_MAX 24

static const int32_t sizes[] = {
    2,    3,    4,    5,    6,     8,     12,    16,     24,
    32,   48,   64,   100,  128,   192,   256,   512,    1000,
    1024, 2048, 3000, 4096, 10000, 16384, 32768, 100000,
};

static struct sim_options profile_options(const struct profile *profile,
                                          uint64_t seed)
{
    return (struct sim_options){
        .seed = seed,
        .latency_ns = profile->one_way_ns - 2 * profile->overhead_ns,
        .jitter_ns = profile->jitter_ns,
        .send_overhead_ns = profile->overhead_ns,
        .receive_overhead_ns = profile->overhead_ns,
        .bytes_per_us = profile->bytes_per_us,
        .slow = SIM_NOBODY,
    };
}

// What the cost model would reckon with if it knew the network.
static struct schedule_costs profile_costs(const struct profile *profile)
{
    return (struct schedule_costs){
        .latency_ns = profile->one_way_ns + profile->jitter_ns / 2,
        .message_ns = profile->overhead_ns,
    };
}

// ----------------------------------------------------------------------- plans

struct candidate {
    char name[16];                 // "2" to "16", "auto", "tuned"
    const struct profile *profile; // NULL: for all of them
    struct schedule_plan plan;
};

struct candidates {
    int count;
    struct candidate list[PLANS_MAX];
};

// As many factors of `radix` as fit, whatever they cost.
static void plan_uniform(int32_t ranks, int32_t radix,
                         struct schedule_plan *plan)
{
    *plan = (struct schedule_plan){.leaders = ranks, .core = 1};
    while (plan->core <= ranks / radix) {
        plan->core *= radix;
        plan->factors[plan->factor_count++] = radix;
    }
    plan->extras = ranks - plan->core;
    plan->stages = plan->factor_count + (plan->extras > 0 ? 2 : 0);
}

static void candidates_add(struct candidates *candidates, const char *name,
                           const struct profile *profile,
                           const struct schedule_plan *plan)
{
    struct candidate *candidate = &candidates->list[candidates->count++];

    snprintf(candidate->name, sizeof(candidate->name), "%s", name);
    candidate->profile = profile;
    candidate->plan = *plan;
}

static bool plans_equal(const struct schedule_plan *a,
                        const struct schedule_plan *b)
{
    return a->factor_count == b->factor_count &&
           memcmp(a->factors, b->factors,
                  (size_t)a->factor_count * sizeof(a->factors[0])) == 0;
}

static bool radix_drawn(int32_t radix)
{
    return radix == 2 || radix == 4 || radix == 8 || radix == 16;
}

static void candidates_make(struct candidates *candidates, int32_t ranks)
{
    struct schedule_plan plan;
    struct schedule_plan tuned;
    char name[16];

    candidates->count = 0;
    for (int32_t radix = 2; radix <= SCHEDULE_RADIX_MAX; radix++) {
        // One factor needs so many ranks.
        if (radix > ranks || (ranks > EVERY_RADIX_MAX && !radix_drawn(radix)))
            continue;
        snprintf(name, sizeof(name), "%d", (int)radix);
        plan_uniform(ranks, radix, &plan);
        candidates_add(candidates, name, NULL, &plan);
    }
    schedule_plan(ranks, 0, schedule_costs_measured(false), &plan);
    candidates_add(candidates, "auto", NULL, &plan);
    for (size_t i = 0; i < PROFILES; i++) {
        struct schedule_costs costs = profile_costs(&profiles[i]);

        schedule_plan(ranks, 0, &costs, &tuned);
        if (!plans_equal(&plan, &tuned)) // else "auto" says it
            candidates_add(candidates, "tuned", &profiles[i], &tuned);
    }
}

// ----------------------------------------------------------------- reductions

struct totals {
    int64_t ranks;
    int64_t right;
};

static void give(void *context, int32_t rank, uint64_t sequence, int64_t *lanes)
{
    struct numeric_record record = {.loss_hi = -rank,
                                    .loss_lo = rank,
                                    .weight_lo = (int64_t)sequence,
                                    .count = 1};

    (void)context;
    memcpy(lanes, &record, sizeof(record));
}

static void judge(void *context, int32_t rank, uint64_t sequence,
                  const int64_t *total)
{
    struct totals *totals = context;
    int64_t ranks = totals->ranks;
    struct numeric_record expected = {.loss_hi = -ranks * (ranks - 1) / 2,
                                      .loss_lo = ranks * (ranks - 1) / 2,
                                      .weight_lo = ranks * (int64_t)sequence,
                                      .count = ranks};

    (void)rank;
    numeric_record_fold(&expected);
    totals->right += memcmp(total, &expected, sizeof(expected)) == 0;
}

// What one run says of all ranks.
struct measure {
    int64_t time_ns; // median
    int64_t sent_max;
    int64_t connected_max;
    int64_t wrong;
};

// The more ranks, the less one run differs from another.
#define REPEATS_MAX 15

static int repeats_of(int32_t ranks)
{
    if (ranks <= 256)
        return REPEATS_MAX;
    return ranks <= EVERY_RADIX_MAX ? 3 : 1;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

static int64_t sent_of(struct sim_job *job, int32_t rank)
{
    return sim_network_counts(sim_job_network(job), rank).sent;
}

static void measure_run(struct sim_job *job, const struct profile *profile,
                        int32_t ranks, struct measure *measure)
{
    struct totals totals = {.ranks = ranks};
    const struct sim_job_run run = {
        .reductions = 1,
        .fill = give,
        .done = judge,
        .context = &totals,
        .late = SIM_NOBODY,
        .timeout_ns = TIMEOUT_NS,
    };
    int repeats = repeats_of(ranks);
    int64_t times_ns[REPEATS_MAX];
    int64_t sent_before = sent_of(job, 0);

    for (int i = 0; i < repeats; i++) {
        struct sim_options options = profile_options(profile, (uint64_t)i + 1);

        sim_network_change(sim_job_network(job), &options);
        times_ns[i] = sim_job_run(job, &run).time_ns;
    }
    qsort(times_ns, (size_t)repeats, sizeof(times_ns[0]), compare);
    *measure = (struct measure){
        .time_ns = times_ns[repeats / 2],
        .wrong = (int64_t)repeats * ranks - totals.right,
    };
    // Rank 0 sends as often in each: so do the others.
    int64_t reductions =
        sent_of(job, 0) * repeats / (sent_of(job, 0) - sent_before);
    for (int32_t i = 0; i < ranks; i++) {
        struct sim_counts counts = sim_network_counts(sim_job_network(job), i);
        int64_t sent = counts.sent / reductions;

        if (sent > measure->sent_max)
            measure->sent_max = sent;
        if (counts.connected > measure->connected_max)
            measure->connected_max = counts.connected;
    }
}

// ---------------------------------------------------------------------
// printing

static void point_print(struct json *json, const struct candidate *candidate,
                        const struct profile *profile,
                        const struct measure *measure)
{
    const struct schedule_plan *plan = &candidate->plan;

    json_object_open(json, NULL);
    json_string(json, "profile", profile->name);
    json_integer(json, "ranks", plan->leaders);
    json_string(json, "plan", candidate->name);
    json_array_open(json, "factors");
    for (int32_t i = 0; i < plan->factor_count; i++)
        json_integer(json, NULL, plan->factors[i]);
    json_array_close(json);
    json_integer(json, "extras", plan->extras);
    json_integer(json, "stages", plan->stages);
    json_integer(json, "time_ns", measure->time_ns);
    json_integer(json, "sent_max", measure->sent_max);
    json_integer(json, "connected_max", measure->connected_max);
    json_integer(json, "wrong", measure->wrong);
    json_object_close(json);
}

static tally_status_t candidate_measure(struct json *json,
                                        const struct candidate *candidate)
{
    int32_t ranks = candidate->plan.leaders;
    const struct sim_job_params params = {
        .size = ranks,
        .network = profile_options(&profiles[0], 1),
        .records = 1,
        .plan = &candidate->plan,
    };
    struct sim_job *job = NULL;
    tally_status_t status = sim_job_create(&params, &job);

    if (status != TALLY_OK)
        return status;
    for (size_t i = 0; i < PROFILES; i++) {
        struct measure measure;

        if (candidate->profile != NULL && candidate->profile != &profiles[i])
            continue;
        measure_run(job, &profiles[i], ranks, &measure);
        point_print(json, candidate, &profiles[i], &measure);
    }
    sim_job_free(job);
    return TALLY_OK;
}

static void profiles_print(struct json *json)
{
    json_array_open(json, "profiles");
    for (size_t i = 0; i < PROFILES; i++) {
        const struct profile *profile = &profiles[i];

        json_object_open(json, NULL);
        json_string(json, "name", profile->name);
        json_string(json, "title", profile->title);
        json_integer(json, "one_way_ns", profile->one_way_ns);
        json_integer(json, "overhead_ns", profile->overhead_ns);
        json_integer(json, "jitter_ns", profile->jitter_ns);
        json_integer(json, "bytes_per_us", profile->bytes_per_us);
        json_string(json, "source", profile->source);
        json_object_close(json);
    }
    json_array_close(json);
}

static tally_status_t size_measure(struct json *json, int32_t ranks)
{
    struct candidates candidates;
    tally_status_t status = TALLY_OK;

    candidates_make(&candidates, ranks);
    for (int i = 0; status == TALLY_OK && i < candidates.count; i++)
        status = candidate_measure(json, &candidates.list[i]);
    return status;
}

static int usage(void)
{
    fprintf(stderr, "usage: scale [--max RANKS]\n");
    return 2;
}

int main(int argc, char **argv)
{
    struct json json = {.out = stdout};
    long max = RANKS_MAX;
    char *end = NULL;

    if (argc == 3 && strcmp(argv[1], "--max") == 0) {
        max = strtol(argv[2], &end, 10);
        if (*end != '\0' || max < 2 || max > RANKS_MAX)
            return usage();
    } else if (argc != 1) {
        return usage();
    }
    json_object_open(&json, NULL);
    profiles_print(&json);
    json_array_open(&json, "points");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        if (sizes[i] > max)
            break;
        if (size_measure(&json, sizes[i]) != TALLY_OK) {
            fprintf(stderr, "scale: %s\n", core_error_text());
            return 1;
        }
    }
    json_array_close(&json);
    if (joins_measure(&json, (int32_t)max) != TALLY_OK) {
        fprintf(stderr, "scale: %s\n", core_error_text());
        return 1;
    }
    json_object_close(&json);
    json_end(&json);
    return 0;
}
