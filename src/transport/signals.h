// SPDX-License-Identifier: BSD-3-Clause
// For backends whose library catches signals when it is loaded: that belongs to
// the host program.
#ifndef TRANSPORT_SIGNALS_H
#define TRANSPORT_SIGNALS_H

#include <signal.h>

struct signals {
    struct sigaction action[NSIG];
    stack_t stack;
};

// Handlers of all signals, and the calling thread's alternate stack.
void signals_save(struct signals *signals);
// Undoes what was changed since.
void signals_restore(const struct signals *signals);

#endif
