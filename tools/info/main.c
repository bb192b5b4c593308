// SPDX-License-Identifier: BSD-3-Clause
// tally_info: what this Tally is, what was set, and which transports there are.
// It joins no job.
#include <getopt.h>
#include <stdlib.h>

#include "info/info.h"

// Exit statuses.
enum { EXIT_TROUBLE = 1, EXIT_USAGE = 2 };

static const char usage[] =
    "usage: tally_info [-ctv] [--json | --man]\n"
    "       tally_info --replicas [--json]\n"
    "  -v, --version     version, ABI and how it was built\n"
    "  -c, --config      every variable: value, source, type, default, doc\n"
    "  -t, --transports  every transport: file, version, or why it is not "
    "usable\n"
    "  -r, --replicas    what replica groups of this host do now, by the "
    "sockets\n"
    "                    in TALLY_RECORDER_FOLDER\n"
    "      --json        the same as one JSON object\n"
    "      --man         the manual page tally(7) in mdoc\n"
    "  -h, --help        this text\n"
    "Without -c, -t or -v: all of them.\n";

enum form { FORM_TEXT, FORM_JSON, FORM_MAN };

struct request {
    unsigned sections;
    enum form form;
    bool replicas;
    bool help;
};

static bool parse(int argc, char **argv, struct request *request)
{
    static const struct option options[] = {
        {"version", no_argument, NULL, 'v'},
        {"config", no_argument, NULL, 'c'},
        {"transports", no_argument, NULL, 't'},
        {"replicas", no_argument, NULL, 'r'},
        {"json", no_argument, NULL, 'j'},
        {"man", no_argument, NULL, 'm'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "vctrh", options, NULL)) != -1) {
        switch (option) {
        case 'v':
            request->sections |= INFO_VERSION;
            break;
        case 'c':
            request->sections |= INFO_CONFIG;
            break;
        case 't':
            request->sections |= INFO_TRANSPORTS;
            break;
        case 'r':
            request->replicas = true;
            break;
        case 'j':
            request->form = FORM_JSON;
            break;
        case 'm':
            request->form = FORM_MAN;
            break;
        case 'h':
            request->help = true;
            break;
        default:
            return false; // getopt_long said why
        }
    }
    if (optind < argc)
        fprintf(stderr, "tally_info: unexpected argument '%s'\n", argv[optind]);
    if (request->replicas &&
        (request->sections != 0 || request->form == FORM_MAN)) {
        fprintf(stderr, "tally_info: --replicas goes with --json only\n");
        return false;
    }
    return optind == argc;
}

static bool show(const struct request *request)
{
    unsigned sections = request->sections != 0 ? request->sections : INFO_ALL;

    if (request->replicas)
        return info_replicas_write(stdout, request->form == FORM_JSON);
    switch (request->form) {
    case FORM_JSON:
        return info_json_write(stdout, sections);
    case FORM_MAN:
        return info_man_write(stdout);
    case FORM_TEXT:
        break;
    }
    return info_text_write(stdout, sections);
}

int main(int argc, char **argv)
{
    struct request request = {0};

    if (!parse(argc, argv, &request)) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    if (request.help) {
        fputs(usage, stdout);
        return EXIT_SUCCESS;
    }
    bool complete = show(&request);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("tally_info: stdout");
        return EXIT_TROUBLE;
    }
    return complete ? EXIT_SUCCESS : EXIT_TROUBLE;
}
