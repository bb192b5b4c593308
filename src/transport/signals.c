// SPDX-License-Identifier: BSD-3-Clause
// See signals.h.
#include "transport/signals.h"

#include <stddef.h>

void signals_save(struct signals *signals)
{
    for (int i = 1; i < NSIG; i++)
        if (sigaction(i, NULL, &signals->action[i]) != 0)
            signals->action[i].sa_handler = SIG_ERR;
    sigaltstack(NULL, &signals->stack);
}

void signals_restore(const struct signals *signals)
{
    struct sigaction now;
    stack_t stack;

    for (int i = 1; i < NSIG; i++)
        if (signals->action[i].sa_handler != SIG_ERR &&
            sigaction(i, NULL, &now) == 0 &&
            now.sa_handler != signals->action[i].sa_handler)
            sigaction(i, &signals->action[i], NULL);
    if (sigaltstack(NULL, &stack) == 0 && stack.ss_sp != signals->stack.ss_sp)
        sigaltstack(&signals->stack, NULL);
}
