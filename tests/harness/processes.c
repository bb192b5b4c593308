// SPDX-License-Identifier: BSD-3-Clause
// See processes.h.
#include "harness/processes.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/error.h"

struct processes_board {
    pthread_barrier_t barrier;
    pid_t pids[PROCESSES_MAX];
    unsigned char slots[PROCESSES_MAX][PROCESSES_EXCHANGE_BYTES_MAX];
};

void processes_fail(const char *file, int line, const char *condition)
{
    fprintf(stderr, "%s:%d: process %d: not so: %s (last error: %s)\n", file,
            line, (int)getpid(), condition, core_error_text());
    fflush(NULL);
    _exit(EXIT_FAILURE);
}

int processes_exit_status(void (*body)(void), int otherwise)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        body();
        exit(otherwise);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        abort();
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static struct processes_board *board_create(int32_t size)
{
    struct processes_board *board =
        mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_barrierattr_t attributes;

    if (board == MAP_FAILED)
        abort();
    pthread_barrierattr_init(&attributes);
    pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&board->barrier, &attributes, (unsigned)size);
    pthread_barrierattr_destroy(&attributes);
    return board;
}

static bool ended_as(int status, enum processes_end end)
{
    if (end == PROCESSES_IS_KILLED)
        return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS;
}

static int32_t rank_of(const struct processes_board *board, int32_t size,
                       pid_t pid)
{
    for (int32_t i = 0; i < size; i++)
        if (board->pids[i] == pid)
            return i;
    abort();
}

static void kill_all(struct processes_board *board, int32_t size)
{
    for (int32_t i = 0; i < size; i++)
        if (board->pids[i] != 0)
            kill(board->pids[i], SIGKILL);
}

static int wait_for_all(struct processes_board *board, int32_t size,
                        const enum processes_end *ends)
{
    int result = 0;

    for (int32_t left = size; left > 0; left--) {
        int status = 0;
        int32_t rank = rank_of(board, size, waitpid(-1, &status, 0));
        enum processes_end end = ends != NULL ? ends[rank] : PROCESSES_RETURNS;
        board->pids[rank] = 0;
        if (ended_as(status, end) || result != 0)
            continue;
        fprintf(stderr, "rank %d ended with wait status 0x%x\n", (int)rank,
                (unsigned)status);
        result = -1;
        kill_all(board, size);
    }
    return result;
}

int processes_run(int32_t size, void (*body)(struct processes_member *member),
                  const void *argument, const enum processes_end *ends)
{
    struct processes_board *board = board_create(size);
    struct processes_member member = {board, 0, size, argument};

    fflush(NULL);
    for (int32_t i = 0; i < size; i++) {
        pid_t pid = fork();
        if (pid < 0)
            abort();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            member.rank = i;
            board->pids[i] = getpid(); // the parent may be late
            body(&member);
            exit(EXIT_SUCCESS);
        }
        board->pids[i] = pid;
    }
    int result = wait_for_all(board, size, ends);
    munmap(board, sizeof(*board));
    return result;
}

void processes_barrier(struct processes_member *member)
{
    pthread_barrier_wait(&member->board->barrier);
}

void processes_exchange(struct processes_member *member, const void *send,
                        void *recv, size_t bytes)
{
    unsigned char *out = recv;

    EXPECT(bytes <= PROCESSES_EXCHANGE_BYTES_MAX);
    memcpy(member->board->slots[member->rank], send, bytes);
    processes_barrier(member);
    for (int32_t i = 0; i < member->size; i++)
        memcpy(out + (size_t)i * bytes, member->board->slots[i], bytes);
    processes_barrier(member);
}

pid_t processes_pid(const struct processes_member *member, int32_t rank)
{
    return member->board->pids[rank];
}
