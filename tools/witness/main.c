// SPDX-License-Identifier: BSD-3-Clause
// A witness as a process of its own. All it does is tally_witness_open's.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tally/tally.h>

static const char usage_text[] =
    "usage: tally_witness\n"
    "Votes on what replica groups decide, until SIGTERM or SIGINT. It has no\n"
    "ranks and no model. With one, two replica groups survive the loss of any\n"
    "one of the three.\n"
    "\n"
    "  --help           print this\n"
    "\n"
    "The settings are those of the replica groups: TALLY_REPLICAS,\n"
    "TALLY_WITNESSES, TALLY_REPLICA_FOLDER and the like. TALLY_REPLICA is the\n"
    "number of this witness: TALLY_REPLICAS for the first.\n";

int main(int argc, char **argv)
{
    tally_witness_t *witness;
    sigset_t ends;
    int number;

    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(usage_text, stdout);
        return EXIT_SUCCESS;
    }
    if (argc != 1) {
        fputs("see tally_witness --help\n", stderr);
        return 2;
    }
    // All threads leave them to sigwait.
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    if (tally_witness_open(NULL, &witness) != TALLY_OK)
        return EXIT_FAILURE; // it was logged
    sigwait(&ends, &number);
    tally_witness_close(witness);
    return EXIT_SUCCESS;
}
