// SPDX-License-Identifier: BSD-3-Clause
// Starts N local ranks of a command, for tests and trials on one machine: sets
// their TALLY_* variables, passes on their output and signals, and ends all
// when one fails. It starts nothing on other machines: torchrun, srun and
// mpirun do.
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "run/ranks.h"

#define RANKS_MAX 4096
#define SECONDS_MAX 1e6
#define GRACE_US 5000000

static const char usage_text[] =
    "usage: tally_run -n N [options] command [arguments...]\n"
    "Starts N ranks of a command on this machine, for tests.\n"
    "\n"
    "  -n, --ranks N    how many ranks\n"
    "  --nodes K        as if on K nodes: contiguous blocks of ranks get\n"
    "                   TALLY_NODE=node0, node1, ...\n"
    "  --timeout S      end all after S seconds, with status 124 (0: never)\n"
    "  --grace S        seconds that the others have to end by themselves when "
    "a\n"
    "                   rank failed or a signal was passed on (default 5);\n"
    "                   then SIGTERM, and SIGKILL 2 seconds later\n"
    "  --keep-going     do not end the others when a rank fails\n"
    "  --no-prefix      do not begin lines of output with \"[rank] \"\n"
    "  --help           print this\n"
    "\n"
    "Sets TALLY_RANK, TALLY_WORLD_SIZE, TALLY_LOCAL_SIZE and TALLY_ROOT, a "
    "port\n"
    "of 127.0.0.1 that stays reserved (bound, but not listening) until the "
    "end:\n"
    "a listener binds it with SO_REUSEADDR. Ranks read /dev/null. SIGINT, "
    "SIGTERM\n"
    "and SIGHUP are passed on to all ranks. A rank is the leader of a process\n"
    "group; when it ends, what is left of the group is killed.\n"
    "\n"
    "Exit status: of the first rank that failed (128 + number of its signal), "
    "else\n"
    "0; 124 after a timeout, 125 if tally_run failed, 126 or 127 if the "
    "command\n"
    "cannot be run.\n";

_Noreturn static void usage_fail(const char *sentence)
{
    fprintf(stderr, "tally_run: %s; see tally_run --help\n", sentence);
    exit(RUN_EXIT_OURS);
}

static int32_t parse_ranks(const char *name, const char *text)
{
    char *end;
    long value = strtol(text, &end, 10);

    if (end == text || *end != '\0' || value < 1 || value > RANKS_MAX) {
        fprintf(stderr, "tally_run: %s %s is not a number from 1 to %d\n", name,
                text, RANKS_MAX);
        exit(RUN_EXIT_OURS);
    }
    return (int32_t)value;
}

static int64_t parse_seconds(const char *name, const char *text)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end != '\0' || !(value >= 0 && value <= SECONDS_MAX)) {
        fprintf(stderr, "tally_run: %s %s is not a number of seconds\n", name,
                text);
        exit(RUN_EXIT_OURS);
    }
    return (int64_t)(value * 1e6);
}

static void parse_options(int argc, char **argv, struct run_options *options)
{
    static const struct option names[] = {
        {"ranks", required_argument, NULL, 'n'},
        {"nodes", required_argument, NULL, 'k'},
        {"timeout", required_argument, NULL, 't'},
        {"grace", required_argument, NULL, 'g'},
        {"no-prefix", no_argument, NULL, 'p'},
        {"keep-going", no_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int choice;

    *options = (struct run_options){.grace_us = GRACE_US, .prefix = true};
    while ((choice = getopt_long(argc, argv, "+n:h", names, NULL)) != -1) {
        switch (choice) {
        case 'n':
            options->ranks = parse_ranks("-n", optarg);
            break;
        case 'k':
            options->nodes = parse_ranks("--nodes", optarg);
            break;
        case 't':
            options->timeout_us = parse_seconds("--timeout", optarg);
            break;
        case 'g':
            options->grace_us = parse_seconds("--grace", optarg);
            break;
        case 'p':
            options->prefix = false;
            break;
        case 'c':
            options->keep_going = true;
            break;
        case 'h':
            fputs(usage_text, stdout);
            exit(EXIT_SUCCESS);
        default:
            usage_fail("wrong option");
        }
    }
    if (options->ranks == 0)
        usage_fail("-n is missing");
    if (options->nodes > options->ranks)
        usage_fail("more nodes than ranks");
    if (optind == argc)
        usage_fail("the command is missing");
    options->prefix = options->prefix && options->ranks > 1;
    options->command = argv + optind;
}

int main(int argc, char **argv)
{
    struct run_options options;

    parse_options(argc, argv, &options);
    return run_ranks(&options);
}
