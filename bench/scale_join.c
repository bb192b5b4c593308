// SPDX-License-Identifier: BSD-3-Clause
// See scale_join.h.
#include "bench/scale_join.h"

#include "bench/profiles.h"
#include "bootstrap/sim/crowd.h"
#include "core/error.h"

static const int32_t sizes[] = {100, 1000, 10000, 100000};
// What a call on a socket costs, over whatever network: that of TCP, measured
// on the loopback (profiles.h).
#define CALL_NS 1500
#define BACKLOG 4096 // net.core.somaxconn

static void join_print(struct json *json, const struct profile *profile,
                       int32_t ranks, const struct crowd_result *result)
{
    json_object_open(json, NULL);
    json_string(json, "profile", profile->name);
    json_integer(json, "ranks", ranks);
    json_integer(json, "up", result->up);
    json_integer(json, "time_ns", result->time_ns);
    json_integer(json, "depth", result->depth);
    json_integer(json, "received", result->received);
    json_integer(json, "sent", result->sent);
    json_integer(json, "accepted", result->accepted);
    json_integer(json, "connections", result->connections);
    json_integer(json, "busy_ns", result->busy_ns);
    json_object_close(json);
}

static tally_status_t join_measure(struct json *json,
                                   const struct profile *profile, int32_t ranks)
{
    const struct crowd_params params = {
        .size = ranks,
        .seed = 1,
        .one_way_ns = profile->one_way_ns,
        .jitter_ns = profile->jitter_ns,
        .call_ns = CALL_NS,
        .backlog = BACKLOG,
        .timeout_us = 60000000,
    };
    struct crowd_result result;
    tally_status_t status = crowd_run(&params, &result);

    if (status == TALLY_OK)
        join_print(json, profile, ranks, &result);
    return status;
}

tally_status_t joins_measure(struct json *json, int32_t max)
{
    tally_status_t status = TALLY_OK;

    json_array_open(json, "joins");
    for (size_t p = 0; p < PROFILES; p++)
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
            if (status == TALLY_OK && sizes[i] <= max)
                status = join_measure(json, &profiles[p], sizes[i]);
    json_array_close(json);
    return status;
}
