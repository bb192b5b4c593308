// SPDX-License-Identifier: BSD-3-Clause
// tally_perf: how long an all-reduce takes on the transport that was chosen,
// and whether it is right; on wish next to Open MPI's. Every rank of a job runs
// it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perf/measure.h"
#include "perf/options.h"
#include "perf/peer.h"
#include "perf/report.h"

// Exit statuses.
enum { EXIT_TROUBLE = 1, EXIT_USAGE = 2 };

struct perf {
    struct options options;
    tally_t *tally;
    int32_t rank;
    int32_t ranks;
    struct work work;
    struct measure_result result;
    struct peer peer;
};

static int fail(const struct perf *perf, const char *what)
{
    fprintf(stderr, "tally_perf: rank %d: %s: %s\n", (int)perf->rank, what,
            tally_last_error());
    return EXIT_TROUBLE;
}

// The share of the iterations that falls into a round.
static int64_t iterations_of(const struct options *options, int64_t round)
{
    return options->iters * (round + 1) / options->rounds -
           options->iters * round / options->rounds;
}

// All ranks look, so that all end if something is missing; rank 0 tells.
static int prepare_peer(struct perf *perf)
{
    char why[2 * PATH_MAX + 128];

    if (!perf->options.compare_mpi ||
        peer_find(&perf->peer, perf->options.mpi_program, why, sizeof(why)))
        return EXIT_SUCCESS;
    if (perf->rank == 0)
        fprintf(stderr, "tally_perf: --compare mpi: %s\n", why);
    return EXIT_USAGE;
}

static void choose_btl(struct perf *perf)
{
    const char *transport = perf->result.transport;
    bool in_memory =
        strcmp(transport, "shm") == 0 || strcmp(transport, "self") == 0;
    const char *btl = perf->options.mpi_btl;

    if (btl == NULL)
        btl = in_memory ? "self,vader" : "self,tcp";
    snprintf(perf->peer.btl, sizeof(perf->peer.btl), "%s", btl);
}

static int run_peer(struct perf *perf, int64_t round)
{
    char why[2 * PATH_MAX + 128];
    struct peer_round params = {
        .ranks = perf->ranks,
        .records = perf->work.records,
        .warmup = perf->options.warmup,
        .iterations = iterations_of(&perf->options, round),
    };

    choose_btl(perf);
    if (peer_run(&perf->peer, &params, why, sizeof(why)))
        return EXIT_SUCCESS;
    fprintf(stderr, "tally_perf: --compare mpi: %s\n", why);
    return EXIT_TROUBLE;
}

// Tally and its peer in turns, so that what else the machine does falls on
// both. While the peer runs, the other ranks sleep in the next round's group.
static int run_rounds(struct perf *perf)
{
    for (int64_t round = 0; round < perf->options.rounds; round++) {
        struct measure_params params = {
            .records = perf->work.records,
            .warmup = perf->options.warmup,
            .iterations = iterations_of(&perf->options, round),
            .round = (int32_t)round,
        };
        if (measure_round(perf->tally, &perf->work, &params, &perf->result) !=
            TALLY_OK)
            return fail(perf, "measuring");
        if (!perf->options.compare_mpi || perf->rank != 0)
            continue;
        int exit_status = run_peer(perf, round);
        if (exit_status != EXIT_SUCCESS)
            return exit_status;
    }
    return EXIT_SUCCESS;
}

static int report(struct perf *perf, int64_t wrong)
{
    struct report report = {
        .tally = &perf->result,
        .peer = perf->options.compare_mpi ? &perf->peer : NULL,
        .wrong = wrong,
        .records = perf->work.records,
        .rounds = (int32_t)perf->options.rounds,
        .warmup = perf->options.warmup,
    };

    samples_sort(&perf->result.samples);
    samples_sort(&perf->peer.samples);
    if (perf->options.json)
        report_json_write(stdout, &report);
    else
        report_text_write(stdout, &report);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("tally_perf: stdout");
        return EXIT_TROUBLE;
    }
    return EXIT_SUCCESS;
}

static int measure(struct perf *perf)
{
    int64_t wrong;
    int exit_status = prepare_peer(perf);

    if (exit_status == EXIT_SUCCESS)
        exit_status = run_rounds(perf);
    if (exit_status != EXIT_SUCCESS)
        return exit_status;
    if (measure_wrong_everywhere(perf->tally, perf->result.wrong, &wrong) !=
        TALLY_OK)
        return fail(perf, "counting wrong results");
    if (perf->rank == 0)
        exit_status = report(perf, wrong);
    if (perf->peer.wrong > 0)
        fprintf(stderr, "tally_perf: %lld results of MPI were wrong\n",
                (long long)perf->peer.wrong);
    return wrong > 0 || perf->peer.wrong > 0 ? EXIT_TROUBLE : exit_status;
}

static int run(struct perf *perf)
{
    size_t samples = (size_t)perf->options.iters;
    int exit_status = EXIT_TROUBLE;

    if (tally_open(NULL, &perf->tally) != TALLY_OK)
        return fail(perf, "tally_open");
    if (tally_rank(perf->tally, &perf->rank, &perf->ranks) != TALLY_OK)
        exit_status = fail(perf, "tally_rank");
    else if (!samples_create(&perf->result.samples, samples) ||
             !samples_create(&perf->peer.samples, samples) ||
             !work_create(&perf->work, perf->rank, perf->ranks,
                          (uint32_t)perf->options.records))
        fprintf(stderr, "tally_perf: no memory for %zu samples\n", samples);
    else
        exit_status = measure(perf);
    work_free(&perf->work);
    samples_free(&perf->peer.samples);
    samples_free(&perf->result.samples);
    tally_close(perf->tally);
    return exit_status;
}

int main(int argc, char **argv)
{
    struct perf perf = {0};

    if (!options_parse(argc, argv, &perf.options)) {
        fputs(options_usage, stderr);
        return EXIT_USAGE;
    }
    if (perf.options.help) {
        fputs(options_usage, stdout);
        return EXIT_SUCCESS;
    }
    return run(&perf);
}
