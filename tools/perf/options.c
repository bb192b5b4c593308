// SPDX-License-Identifier: BSD-3-Clause
// See options.h.
#include "perf/options.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perf/work.h"

#define ITERATIONS_MAX 10000000
#define ROUNDS_MAX 100

const char options_usage[] =
    "usage: tally_run -n N tally_perf [options]\n"
    "  --iters I          iterations that are measured, in all (10000)\n"
    "  --warmup W         iterations before them, in each round (1000)\n"
    "  --records K        records of 64 bytes, 1 to 64 (1)\n"
    "  --rounds R         rounds, each on a group of its own (1; 3 to "
    "compare)\n"
    "  --compare mpi      Open MPI's MPI_Allreduce in turns with it\n"
    "  --mpi-btl LIST     Open MPI's layers (self,vader; self,tcp where Tally\n"
    "                     goes over a network transport)\n"
    "  --mpi-program FILE the MPI program, tally_perf_mpi\n"
    "  --json             one JSON object\n"
    "  --help             this text\n"
    "Rank 0 prints. Exits with 1 if a result was wrong or a call failed, 2 if\n"
    "the command line is wrong or the peer is missing.\n";

static bool parse_integer(const char *name, const char *text, int64_t minimum,
                          int64_t maximum, int64_t *out)
{
    char *end;

    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno == 0 && end != text && *end == '\0' && value >= minimum &&
        value <= maximum) {
        *out = value;
        return true;
    }
    fprintf(stderr,
            "tally_perf: --%s %s: expected an integer from %" PRId64
            " to %" PRId64 "\n",
            name, text, minimum, maximum);
    return false;
}

static bool parse_peer(const char *text, bool *compare)
{
    *compare = strcmp(text, "mpi") == 0;
    if (!*compare)
        fprintf(stderr, "tally_perf: --compare %s: expected mpi\n", text);
    return *compare;
}

static bool take(int option, struct options *options)
{
    switch (option) {
    case 'i':
        return parse_integer("iters", optarg, 1, ITERATIONS_MAX,
                             &options->iters);
    case 'w':
        return parse_integer("warmup", optarg, 0, ITERATIONS_MAX,
                             &options->warmup);
    case 'k':
        return parse_integer("records", optarg, 1, WORK_RECORDS_MAX,
                             &options->records);
    case 'r':
        return parse_integer("rounds", optarg, 1, ROUNDS_MAX, &options->rounds);
    case 'c':
        return parse_peer(optarg, &options->compare_mpi);
    case 'b':
        options->mpi_btl = optarg;
        return true;
    case 'p':
        options->mpi_program = optarg;
        return true;
    case 'j':
        options->json = true;
        return true;
    case 'h':
        options->help = true;
        return true;
    default:
        return false; // getopt_long said why
    }
}

bool options_parse(int argc, char **argv, struct options *options)
{
    static const struct option names[] = {
        {"iters", required_argument, NULL, 'i'},
        {"warmup", required_argument, NULL, 'w'},
        {"records", required_argument, NULL, 'k'},
        {"rounds", required_argument, NULL, 'r'},
        {"compare", required_argument, NULL, 'c'},
        {"mpi-btl", required_argument, NULL, 'b'},
        {"mpi-program", required_argument, NULL, 'p'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int option;

    *options = (struct options){.iters = 10000, .warmup = 1000, .records = 1};
    while ((option = getopt_long(argc, argv, "h", names, NULL)) != -1)
        if (!take(option, options))
            return false;
    if (optind < argc) {
        fprintf(stderr, "tally_perf: unexpected argument '%s'\n", argv[optind]);
        return false;
    }
    if (options->rounds == 0)
        options->rounds = options->compare_mpi ? 3 : 1;
    if (options->rounds > options->iters)
        options->rounds = options->iters;
    return true;
}
