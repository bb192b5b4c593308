// SPDX-License-Identifier: BSD-3-Clause
// Ranks as forked processes of a test, with a shared board to exchange on. For
// what a thread cannot do: be killed, be stopped, load a library for itself.
#ifndef HARNESS_PROCESSES_H
#define HARNESS_PROCESSES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROCESSES_MAX 8
#define PROCESSES_EXCHANGE_BYTES_MAX 4096

struct processes_board; // memory that all of them share

struct processes_member {
    struct processes_board *board;
    int32_t rank;
    int32_t size;
    const void *argument; // the run's
};

// How a rank is to end.
enum processes_end {
    PROCESSES_RETURNS = 0,
    PROCESSES_IS_KILLED, // by SIGKILL
};

// Forks `size` processes that run `body`, and waits. Returns 0 if every rank
// ended as `ends` says (NULL: all return). At the first that did not, the
// others are killed, and it returns -1; what went wrong is on stderr.
// The caller must not have used UCX.
int processes_run(int32_t size, void (*body)(struct processes_member *member),
                  const void *argument, const enum processes_end *ends);

// The exit status of a process that does it: `otherwise` where that comes back,
// less than 0 where it did not exit.
int processes_exit_status(void (*body)(void), int otherwise);

// Every rank's `bytes` bytes into recv[size][bytes].
void processes_exchange(struct processes_member *member, const void *send,
                        void *recv, size_t bytes);

// Waits for all.
void processes_barrier(struct processes_member *member);

// The process of a rank.
pid_t processes_pid(const struct processes_member *member, int32_t rank);

// Ends the process, with the place, if the condition does not hold. Check's own
// assertions belong to the process that Check forked.
#define EXPECT(condition)                                                      \
    do {                                                                       \
        if (!(condition))                                                      \
            processes_fail(__FILE__, __LINE__, #condition);                    \
    } while (0)

void processes_fail(const char *file, int line, const char *condition)
    __attribute__((noreturn));

#endif
