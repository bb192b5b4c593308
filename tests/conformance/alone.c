// SPDX-License-Identifier: BSD-3-Clause
// The digests that conformance runs must come to, by one process: by adding up,
// or by the all-reduce that ships on a simulated network.
//     alone add|sim EPOCHS RANKS CHANNELS...
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conformance/holding.h"
#include "core/error.h"
#include "numeric/maximum.h"
#include "transport/sim/job.h"

#define CHANNELS_MAX 64

static void add_up(int epochs, int32_t ranks, uint32_t channels)
{
    uint64_t digest = HOLDING_DIGEST;

    for (int epoch = 1; epoch <= epochs; epoch++) {
        struct numeric_record totals[CHANNELS_MAX];

        for (uint32_t k = 0; k < channels; k++)
            totals[k] = holding_total(ranks, epoch, k);
        holding_digest(&digest, holding_most(ranks, epoch), totals, channels);
    }
    holding_digest_print(ranks, channels, digest);
}

struct simulation {
    uint32_t channels;
    uint64_t *digests; // of each rank
};

static void fill(void *context, int32_t rank, uint64_t sequence, int64_t *lanes)
{
    const struct simulation *simulation = context;
    struct numeric_record *records = (struct numeric_record *)lanes;

    memset(records, 0, simulation->channels * sizeof(*records));
    for (uint32_t k = 0; k < simulation->channels; k++) {
        struct holding holding;

        holding_fill(&holding, rank, (int)sequence, k);
        holding_add(&holding, &records[k]);
    }
    lanes[simulation->channels * NUMERIC_LANES] =
        numeric_maximum_encode(holding_offer(rank, (int)sequence));
}

static void done(void *context, int32_t rank, uint64_t sequence,
                 const int64_t *total)
{
    const struct simulation *simulation = context;

    (void)sequence;
    holding_digest(
        &simulation->digests[rank],
        numeric_maximum_decode(total[simulation->channels * NUMERIC_LANES]),
        (const struct numeric_record *)total, simulation->channels);
}

static bool simulate(int epochs, int32_t ranks, uint32_t channels)
{
    const struct sim_job_params params = {
        .size = ranks,
        .network = {.seed = 1,
                    .latency_ns = 2000,
                    .jitter_ns = 5000,
                    .slow = SIM_NOBODY},
        .records = channels,
        .max_lanes = 1,
    };
    struct simulation simulation = {
        channels, calloc((size_t)ranks, sizeof(*simulation.digests))};
    const struct sim_job_run run = {
        .reductions = (uint64_t)epochs,
        .fill = fill,
        .done = done,
        .context = &simulation,
        .late = SIM_NOBODY,
        .timeout_ns = INT64_C(1000000000),
    };
    struct sim_job *job;
    bool equal = true;

    if (simulation.digests == NULL || sim_job_create(&params, &job) != TALLY_OK)
        return false;
    for (int32_t rank = 0; rank < ranks; rank++)
        simulation.digests[rank] = HOLDING_DIGEST;
    equal = sim_job_run(job, &run).failed == 0;
    for (int32_t rank = 1; rank < ranks; rank++)
        equal = equal && simulation.digests[rank] == simulation.digests[0];
    if (equal)
        holding_digest_print(ranks, channels, simulation.digests[0]);
    sim_job_free(job);
    free(simulation.digests);
    return equal;
}

int main(int argc, char **argv)
{
    bool by_sim = argc > 4 && strcmp(argv[1], "sim") == 0;
    bool by_adding = argc > 4 && strcmp(argv[1], "add") == 0;

    if (!by_sim && !by_adding) {
        fprintf(stderr, "usage: alone add|sim EPOCHS RANKS CHANNELS...\n");
        return 2;
    }
    int epochs = atoi(argv[2]);
    int32_t ranks = atoi(argv[3]);
    for (int i = 4; i < argc; i++) {
        uint32_t channels = (uint32_t)atoi(argv[i]);

        if (channels < 1 || channels > CHANNELS_MAX)
            return 2;
        if (by_adding)
            add_up(epochs, ranks, channels);
        else if (!simulate(epochs, ranks, channels))
            return 1;
    }
    return 0;
}
