// SPDX-License-Identifier: BSD-3-Clause
// The command line of tally_doctor.
#ifndef DOCTOR_OPTIONS_H
#define DOCTOR_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

// Exit statuses.
enum {
    EXIT_FINE = 0,
    EXIT_WARNED = 1, // with --strict
    EXIT_FOUND = 2,  // something failed
    EXIT_USAGE = 3   // or the doctor itself failed
};

struct options {
    int64_t timeout_us; // for the ranks to come, and for each exchange
    bool json;
    bool strict;
    bool help;
};

extern const char options_usage[];

// False: the command line is wrong, which was told on stderr.
bool options_parse(int argc, char **argv, struct options *options);

#endif
