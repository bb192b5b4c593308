// SPDX-License-Identifier: BSD-3-Clause
// What a library must leave alone in the process that loads it: code that
// memory hooks would patch, signals, open files. For processes of processes.h.
#ifndef HARNESS_PROCESS_STATE_H
#define HARNESS_PROCESS_STATE_H

#include <signal.h>

#define PROCESS_STATE_HOOKED 8 // functions of the C library
#define PROCESS_STATE_CODE_BYTES 16

struct process_state {
    unsigned char code[PROCESS_STATE_HOOKED][PROCESS_STATE_CODE_BYTES];
    void (*handlers[NSIG])(int);
    void *signal_stack;
};

void process_state_note(struct process_state *state);
// Ends the process if something has changed since.
void process_state_expect(const struct process_state *before);

// Entries of /proc/self/fd.
int process_open_files(void);
long process_resident_kib(void);

#endif
