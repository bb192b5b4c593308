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
#define RANKS_MAX 1000000
#define RECORD_BYTES ((int64_t)sizeof(struct numeric_record))

const char options_usage[] =
    "usage: tally_run -n N tally_perf [options]\n"
    "Lists are like 1,4,8 or 2-8; there is a line for each combination.\n"
    "  --transports LIST  shm, ucx, ofi (what TALLY_TRANSPORT says); a "
    "network\n"
    "                     transport carries every message then\n"
    "  --ranks LIST       the first so many ranks (all)\n"
    "  --records LIST     records of 64 bytes, 1 to 64 (1)\n"
    "  -b BYTES -e BYTES -f FACTOR\n"
    "                     in place of --records: from, to, times (64, 64, 2)\n"
    "  -n, --iters I      iterations that are measured, in all (10000)\n"
    "  -w, --warmup W     iterations before them, in each round (1000)\n"
    "  --rounds R         rounds, each on a group of its own (1; 3 to "
    "compare)\n"
    "  --compare PEER     in turns with it: mpi (Open MPI's MPI_Allreduce),\n"
    "                     pingpong (UCX or libfabric by itself, one way),\n"
    "                     exchange (the same, both send at once)\n"
    "  --cpu              what a rank costs while idle, and while it waits\n"
    "  --mpi-btl LIST     Open MPI's layers (self,vader; self,tcp where Tally\n"
    "                     goes over a network transport)\n"
    "  --mpi-program FILE the MPI program, tally_perf_mpi\n"
    "  --json             a JSON object a line\n"
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

// "8" or "2-8".
static bool append_range(const char *name, char *text, int64_t maximum,
                         struct options_list *list)
{
    char *dash = strchr(text, '-');
    int64_t first, last;

    if (dash != NULL)
        *dash = '\0';
    if (!parse_integer(name, text, 1, maximum, &first))
        return false;
    last = first;
    if (dash != NULL && !parse_integer(name, dash + 1, first, maximum, &last))
        return false;
    for (int64_t value = first; value <= last; value++) {
        if (list->count == OPTIONS_LIST_MAX) {
            fprintf(stderr, "tally_perf: --%s: more than %d values\n", name,
                    OPTIONS_LIST_MAX);
            return false;
        }
        list->values[list->count++] = value;
    }
    return true;
}

static bool parse_list(const char *name, char *text, int64_t maximum,
                       struct options_list *list)
{
    list->count = 0;
    for (char *next; text != NULL; text = next) {
        next = strchr(text, ',');
        if (next != NULL)
            *next++ = '\0';
        if (!append_range(name, text, maximum, list))
            return false;
    }
    return true;
}

// Sizes in bytes, as other benchmarks of collectives take them.
struct sizes {
    int64_t begin;
    int64_t end;
    int64_t factor;
};

static bool take_sizes(const struct sizes *sizes, struct options *options)
{
    int64_t begin = sizes->begin > 0 ? sizes->begin : RECORD_BYTES;
    int64_t end = sizes->end > 0 ? sizes->end : begin;
    int64_t factor = sizes->factor > 0 ? sizes->factor : 2;

    if (sizes->begin == 0 && sizes->end == 0)
        return true;
    if (begin % RECORD_BYTES != 0 || end % RECORD_BYTES != 0 || begin > end) {
        fprintf(stderr, "tally_perf: -b, -e: expected multiples of 64 bytes, "
                        "the second not the less\n");
        return false;
    }
    options->records.count = 0;
    for (int64_t bytes = begin; bytes <= end; bytes *= factor)
        options->records.values[options->records.count++] =
            bytes / RECORD_BYTES;
    return true;
}

static bool parse_peer(const char *text, enum peer_kind *compare)
{
    *compare = peer_kind_named(text);
    if (*compare == PEER_NONE)
        fprintf(stderr,
                "tally_perf: --compare %s: expected mpi, pingpong or "
                "exchange\n",
                text);
    return *compare != PEER_NONE;
}

static bool take(int option, struct options *options, struct sizes *sizes)
{
    const int64_t bytes_max = WORK_RECORDS_MAX * RECORD_BYTES;

    switch (option) {
    case 'n':
        return parse_integer("iters", optarg, 1, ITERATIONS_MAX,
                             &options->iters);
    case 'w':
        return parse_integer("warmup", optarg, 0, ITERATIONS_MAX,
                             &options->warmup);
    case 'k':
        return parse_list("records", optarg, WORK_RECORDS_MAX,
                          &options->records);
    case 'N':
        return parse_list("ranks", optarg, RANKS_MAX, &options->ranks);
    case 'b':
        return parse_integer("begin", optarg, 1, bytes_max, &sizes->begin);
    case 'e':
        return parse_integer("end", optarg, 1, bytes_max, &sizes->end);
    case 'f':
        return parse_integer("factor", optarg, 2, bytes_max, &sizes->factor);
    case 'r':
        return parse_integer("rounds", optarg, 1, ROUNDS_MAX, &options->rounds);
    case 't':
        options->transports = optarg;
        return true;
    case 'c':
        return parse_peer(optarg, &options->compare);
    case 'm':
        options->mpi_btl = optarg;
        return true;
    case 'p':
        options->mpi_program = optarg;
        return true;
    case 'u':
        options->cpu = true;
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
        {"begin", required_argument, NULL, 'b'},
        {"end", required_argument, NULL, 'e'},
        {"factor", required_argument, NULL, 'f'},
        {"iters", required_argument, NULL, 'n'},
        {"warmup", required_argument, NULL, 'w'},
        {"records", required_argument, NULL, 'k'},
        {"ranks", required_argument, NULL, 'N'},
        {"transports", required_argument, NULL, 't'},
        {"rounds", required_argument, NULL, 'r'},
        {"compare", required_argument, NULL, 'c'},
        {"mpi-btl", required_argument, NULL, 'm'},
        {"mpi-program", required_argument, NULL, 'p'},
        {"cpu", no_argument, NULL, 'u'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct sizes sizes = {0};
    int option;

    *options = (struct options){
        .iters = 10000,
        .warmup = 1000,
        .records = {.count = 1, .values = {1}},
    };
    while ((option = getopt_long(argc, argv, "b:e:f:n:w:h", names, NULL)) != -1)
        if (!take(option, options, &sizes))
            return false;
    if (optind < argc) {
        fprintf(stderr, "tally_perf: unexpected argument '%s'\n", argv[optind]);
        return false;
    }
    if (options->rounds == 0)
        options->rounds = options->compare != PEER_NONE ? 3 : 1;
    if (options->rounds > options->iters)
        options->rounds = options->iters;
    return take_sizes(&sizes, options);
}
