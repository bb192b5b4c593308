// SPDX-License-Identifier: BSD-3-Clause
// See options.h.
#include "doctor/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#define TIMEOUT_SECONDS_MAX 3600

const char options_usage[] =
    "usage: [launcher] tally_doctor [options]\n"
    "  --timeout S  seconds that ranks wait for each other, at each meeting "
    "(20)\n"
    "  --strict     a warning is a failure: exit with 1\n"
    "  --json       one JSON object\n"
    "  --help       this text\n"
    "Run it as the job is run: tally_run, torchrun, srun or mpirun. Rank 0\n"
    "prints; where the ranks do not meet, each for itself. Exits with 0 if "
    "all\n"
    "is well or only warned of, 2 if something failed, 3 if the command line "
    "is\n"
    "wrong.\n";

static bool parse_timeout(const char *text, int64_t *out)
{
    char *end;

    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno == 0 && end != text && *end == '\0' && value >= 1 &&
        value <= TIMEOUT_SECONDS_MAX) {
        *out = (int64_t)value * 1000000;
        return true;
    }
    fprintf(stderr,
            "tally_doctor: --timeout %s: expected an integer from 1 to %d\n",
            text, TIMEOUT_SECONDS_MAX);
    return false;
}

bool options_parse(int argc, char **argv, struct options *options)
{
    static const struct option names[] = {
        {"timeout", required_argument, NULL, 't'},
        {"strict", no_argument, NULL, 's'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int option;

    *options = (struct options){.timeout_us = 20000000};
    while ((option = getopt_long(argc, argv, "h", names, NULL)) != -1) {
        switch (option) {
        case 't':
            if (!parse_timeout(optarg, &options->timeout_us))
                return false;
            break;
        case 's':
            options->strict = true;
            break;
        case 'j':
            options->json = true;
            break;
        case 'h':
            options->help = true;
            break;
        default:
            return false; // getopt_long said why
        }
    }
    if (optind < argc)
        fprintf(stderr, "tally_doctor: unexpected argument '%s'\n",
                argv[optind]);
    return optind == argc;
}
