// SPDX-License-Identifier: BSD-3-Clause
// Descriptors that a transport's library opens without asking for them to be
// closed on exec: no program that the host starts must inherit them.
#ifndef TRANSPORT_DESCRIPTORS_H
#define TRANSPORT_DESCRIPTORS_H

#include <stdint.h>

#define DESCRIPTORS_MAX 4096 // higher ones are left alone

struct descriptors {
    uint64_t open[DESCRIPTORS_MAX / 64];
};

// What is open now, before a call into the library.
void descriptors_note(struct descriptors *before);

// After it: what is new is closed on exec, and so are connections that came to
// a listener which is. Who opened a descriptor cannot be told, so one that
// another thread opened meanwhile is closed on exec too.
void descriptors_seal(const struct descriptors *before);

#endif
