// SPDX-License-Identifier: BSD-3-Clause
// A libfabric of the tests' own, whose one endpoint sends to itself: asks for
// what this machine's providers do not, refuses when it is told to, and looks
// whether the rules are kept. A test loads it before the backend does.
#ifndef MADE_UP_LIBFABRIC_H
#define MADE_UP_LIBFABRIC_H

#include <stddef.h>
#include <stdint.h>

#define MADE_UP_SYMBOL "made_up"

// The one object of the library: tests write the first part and read the rest.
struct made_up {
    const char *providers; // those that it has, each between spaces
    int mr_mode;
    size_t inject_size;
    uint64_t tag_format;
    int refusals;   // so many posts get FI_EAGAIN
    int post_error; // of the next post; 0: none
    int send_error; // of the next send, as its completion; 0: none

    int open_objects;  // infos and registrations, too
    int registrations; // so far
    int violations;    // of the rules
};

#endif
