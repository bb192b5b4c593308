// SPDX-License-Identifier: BSD-3-Clause
// See process_state.h.
#include "harness/process_state.h"

#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "harness/processes.h"

static const char *const hooked[PROCESS_STATE_HOOKED] = {
    "mmap", "munmap", "mremap", "madvise", "shmat", "shmdt", "brk", "sbrk"};

void process_state_note(struct process_state *state)
{
    struct sigaction action;
    stack_t stack;

    memset(state, 0, sizeof(*state));
    for (int i = 0; i < PROCESS_STATE_HOOKED; i++)
        memcpy(state->code[i], dlsym(RTLD_DEFAULT, hooked[i]),
               PROCESS_STATE_CODE_BYTES);
    for (int i = 1; i < NSIG; i++)
        if (sigaction(i, NULL, &action) == 0)
            state->handlers[i] = action.sa_handler;
    EXPECT(sigaltstack(NULL, &stack) == 0);
    state->signal_stack = stack.ss_sp;
}

void process_state_expect(const struct process_state *before)
{
    struct process_state now;

    process_state_note(&now);
    for (int i = 0; i < PROCESS_STATE_HOOKED; i++)
        EXPECT(memcmp(now.code[i], before->code[i], PROCESS_STATE_CODE_BYTES) ==
               0);
    for (int i = 1; i < NSIG; i++)
        EXPECT(now.handlers[i] == before->handlers[i]);
    EXPECT(now.signal_stack == before->signal_stack);
}

int process_open_files(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;

    EXPECT(folder != NULL);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

long process_resident_kib(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    long size = 0, resident = 0;

    EXPECT(file != NULL && fscanf(file, "%ld %ld", &size, &resident) == 2);
    fclose(file);
    return resident * sysconf(_SC_PAGESIZE) / 1024;
}
