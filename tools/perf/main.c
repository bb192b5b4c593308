// SPDX-License-Identifier: BSD-3-Clause
// tally_perf: how long an all-reduce takes on the transports that were chosen,
// and whether it is right; on wish next to a peer. Every rank of a job runs it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perf/cpu.h"
#include "perf/measure.h"
#include "perf/options.h"
#include "perf/peer.h"
#include "perf/report.h"

// Exit statuses.
enum { EXIT_TROUBLE = 1, EXIT_USAGE = 2 };

struct perf {
    struct options options;
    const char *transport; // the one under way; NULL: the environment's
    tally_t *tally;
    int32_t rank;
    int32_t ranks;
    bool header; // was written
};

// One line of the table: what is measured on some ranks with some records.
struct line {
    struct measure_params params;
    struct work work;
    struct measure_result result;
    struct peer peer;
    struct cpu_cost cpu;
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
static int find_peer(struct perf *perf, struct line *line)
{
    char why[2 * PATH_MAX + 128];
    struct peer_wish wish = {
        .kind = perf->options.compare,
        .transport = line->result.transport,
        .mpi_program = perf->options.mpi_program,
        .mpi_btl = perf->options.mpi_btl,
    };

    if (wish.kind == PEER_NONE ||
        peer_find(&line->peer, &wish, why, sizeof(why)))
        return EXIT_SUCCESS;
    if (perf->rank == 0)
        fprintf(stderr, "tally_perf: --compare %s: %s\n",
                peer_kind_names[wish.kind], why);
    return EXIT_USAGE;
}

static int run_peer(struct line *line)
{
    char why[2 * PATH_MAX + 128];
    struct peer_round round = {
        .ranks = line->params.ranks,
        .records = line->params.records,
        .warmup = line->params.warmup,
        .iterations = line->params.iterations,
    };

    if (peer_run(&line->peer, &round, why, sizeof(why)))
        return EXIT_SUCCESS;
    fprintf(stderr, "tally_perf: --compare %s: %s\n",
            peer_kind_names[line->peer.kind], why);
    return EXIT_TROUBLE;
}

// All ranks, also those that have no part in the line: so nobody waits for
// longer than a round, nor closes before the last.
static int meet(struct perf *perf, const struct line *line)
{
    struct measure_result all;

    if (line->params.ranks == perf->ranks ||
        measure_describe(perf->tally, perf->ranks, &all) == TALLY_OK)
        return EXIT_SUCCESS;
    return fail(perf, "meeting the other ranks");
}

// Tally and its peer in turns, so that what else the machine does falls on
// both. While the peer runs, the other ranks sleep in the next group.
static int run_rounds(struct perf *perf, struct line *line)
{
    for (int64_t round = 0; round < perf->options.rounds; round++) {
        line->params.iterations = iterations_of(&perf->options, round);
        line->params.round = (int32_t)round;
        if (measure_round(perf->tally, &line->work, &line->params,
                          &line->result) != TALLY_OK)
            return fail(perf, "measuring");
        int exit_status = EXIT_SUCCESS;
        if (perf->options.compare != PEER_NONE && perf->rank == 0)
            exit_status = run_peer(line);
        if (exit_status == EXIT_SUCCESS)
            exit_status = meet(perf, line);
        if (exit_status != EXIT_SUCCESS)
            return exit_status;
    }
    return EXIT_SUCCESS;
}

static int sit_out(struct perf *perf, const struct line *line)
{
    int exit_status = EXIT_SUCCESS;

    for (int64_t round = 0;
         round <= perf->options.rounds && exit_status == EXIT_SUCCESS; round++)
        exit_status = meet(perf, line);
    return exit_status;
}

static int report(struct perf *perf, struct line *line, int64_t wrong)
{
    const struct options *options = &perf->options;
    const struct report_header header = {
        .warmup = options->warmup,
        .rounds = (int32_t)options->rounds,
        .peer = options->compare,
        .cpu = options->cpu,
    };
    const struct report figures = {
        .tally = &line->result,
        .peer = options->compare != PEER_NONE ? &line->peer : NULL,
        .cpu = options->cpu ? &line->cpu : NULL,
        .wrong = wrong,
        .records = line->params.records,
    };

    samples_sort(&line->result.samples);
    samples_sort(&line->peer.samples);
    if (!options->json && !perf->header)
        report_header_write(stdout, &header);
    perf->header = true;
    if (options->json)
        report_json_write(stdout, &figures);
    else
        report_text_write(stdout, &figures);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("tally_perf: stdout");
        return EXIT_TROUBLE;
    }
    return EXIT_SUCCESS;
}

static int measure(struct perf *perf, struct line *line)
{
    int32_t ranks = line->params.ranks;
    int64_t wrong;

    if (measure_describe(perf->tally, ranks, &line->result) != TALLY_OK)
        return fail(perf, "making a group");
    int exit_status = find_peer(perf, line);
    if (exit_status == EXIT_SUCCESS)
        exit_status = run_rounds(perf, line);
    if (exit_status != EXIT_SUCCESS)
        return exit_status;
    if (perf->options.cpu &&
        cpu_measure(perf->tally, perf->rank, ranks, &line->cpu) != TALLY_OK)
        return fail(perf, "measuring processor time");
    if (measure_wrong_everywhere(perf->tally, ranks, line->result.wrong,
                                 &wrong) != TALLY_OK)
        return fail(perf, "counting wrong results");
    exit_status = meet(perf, line);
    if (exit_status != EXIT_SUCCESS)
        return exit_status;
    if (perf->rank == 0)
        exit_status = report(perf, line, wrong);
    if (line->peer.wrong > 0)
        fprintf(stderr, "tally_perf: %lld results of MPI were wrong\n",
                (long long)line->peer.wrong);
    return wrong > 0 || line->peer.wrong > 0 ? EXIT_TROUBLE : exit_status;
}

static int run_line(struct perf *perf, int32_t ranks, uint32_t records)
{
    size_t samples = (size_t)perf->options.iters;
    struct line line = {
        .params = {.ranks = ranks,
                   .records = records,
                   .warmup = perf->options.warmup},
    };
    int exit_status = EXIT_TROUBLE;

    if (perf->rank >= ranks)
        return sit_out(perf, &line);
    if (!samples_create(&line.result.samples, samples) ||
        !samples_create(&line.peer.samples, samples) ||
        !work_create(&line.work, perf->rank, ranks, records))
        fprintf(stderr, "tally_perf: no memory for %zu samples\n", samples);
    else
        exit_status = measure(perf, &line);
    work_free(&line.work);
    samples_free(&line.peer.samples);
    samples_free(&line.result.samples);
    return exit_status;
}

static int run_lines(struct perf *perf)
{
    const struct options_list *records = &perf->options.records;
    struct options_list ranks = perf->options.ranks;
    int exit_status = EXIT_SUCCESS;

    if (ranks.count == 0)
        ranks = (struct options_list){.count = 1, .values = {perf->ranks}};
    for (int n = 0; n < ranks.count; n++) {
        if (ranks.values[n] > perf->ranks) {
            if (perf->rank == 0)
                fprintf(stderr, "tally_perf: --ranks: the job has %d ranks\n",
                        (int)perf->ranks);
            return EXIT_USAGE;
        }
        for (int k = 0; k < records->count && exit_status == EXIT_SUCCESS; k++)
            exit_status = run_line(perf, (int32_t)ranks.values[n],
                                   (uint32_t)records->values[k]);
    }
    return exit_status;
}

// A transport that is named carries every message, unless the environment says
// otherwise: it is what is to be measured.
static const char *look_up(void *context, const char *name)
{
    const struct perf *perf = context;
    const char *value = getenv(name);

    if (perf->transport == NULL)
        return value;
    if (strcmp(name, "TALLY_TRANSPORT") == 0)
        return perf->transport;
    if (strcmp(name, "TALLY_NODE_SHM") == 0 && value == NULL &&
        strcmp(perf->transport, "shm") != 0)
        return "0";
    return value;
}

static int run_transport(struct perf *perf)
{
    tally_host_t host = TALLY_INIT(tally_host_t);
    int exit_status;

    host.get_env = look_up;
    host.context = perf;
    if (tally_open(perf->transport != NULL ? &host : NULL, &perf->tally) !=
        TALLY_OK)
        return fail(perf, "tally_open");
    if (tally_rank(perf->tally, &perf->rank, &perf->ranks) != TALLY_OK)
        exit_status = fail(perf, "tally_rank");
    else
        exit_status = run_lines(perf);
    tally_close(perf->tally);
    return exit_status;
}

static int run(struct perf *perf)
{
    int exit_status = EXIT_SUCCESS;

    if (perf->options.transports == NULL)
        return run_transport(perf);
    for (char *name = perf->options.transports, *next;
         name != NULL && exit_status == EXIT_SUCCESS; name = next) {
        next = strchr(name, ',');
        if (next != NULL)
            *next++ = '\0';
        perf->transport = name;
        exit_status = run_transport(perf);
    }
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
