// SPDX-License-Identifier: BSD-3-Clause
// Ends the process, with a sentence, where a call into a library or a driver
// does not come back. What waits for other ranks has deadlines of its own.
#ifndef DOCTOR_WATCHDOG_H
#define DOCTOR_WATCHDOG_H

// How long each stage may take. Once a process, before the first.
void watchdog_begin(unsigned seconds);

// What comes is `stage` ("opening transport ucx"); it lives until the end of
// the stage.
void watchdog_enter(const char *stage);
void watchdog_leave(void);

#endif
