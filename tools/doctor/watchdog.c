// SPDX-License-Identifier: BSD-3-Clause
// See watchdog.h.
#include "doctor/watchdog.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "doctor/options.h"

static unsigned stage_seconds;
static const char *volatile current;

static void say(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0)
        return;
}

static void give_up(int signal_number)
{
    (void)signal_number;
    say("tally_doctor: FAIL: ");
    say(current);
    say(" does not come to an end: a library or a driver hangs\n");
    _exit(EXIT_FOUND);
}

void watchdog_begin(unsigned seconds)
{
    const struct sigaction action = {.sa_handler = give_up};

    stage_seconds = seconds;
    sigaction(SIGALRM, &action, NULL);
}

void watchdog_enter(const char *stage)
{
    current = stage;
    alarm(stage_seconds);
}

void watchdog_leave(void)
{
    alarm(0);
}
