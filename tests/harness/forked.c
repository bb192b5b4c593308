// SPDX-License-Identifier: BSD-3-Clause
// See forked.h.
#include "harness/forked.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define RANKS_MAX 64

struct forked {
    pthread_barrier_t barrier;
    pid_t pids[RANKS_MAX];
    unsigned char board[RANKS_MAX * FORKED_BYTES_MAX];
};

int forked_allgather(void *context, const void *send, void *recv, size_t bytes)
{
    struct forked_member *member = context;
    struct forked *forked = member->forked;

    if (bytes > FORKED_BYTES_MAX)
        return -1;
    if (bytes > 0)
        memcpy(forked->board + (size_t)member->rank * bytes, send, bytes);
    pthread_barrier_wait(&forked->barrier);
    if (bytes > 0)
        memcpy(recv, forked->board, (size_t)member->size * bytes);
    pthread_barrier_wait(&forked->barrier);
    return 0;
}

static struct forked *forked_create(int32_t size)
{
    pthread_barrierattr_t attributes;
    struct forked *forked =
        mmap(NULL, sizeof(*forked), PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (forked == MAP_FAILED || size > RANKS_MAX)
        abort();
    pthread_barrierattr_init(&attributes);
    pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&forked->barrier, &attributes, (unsigned)size);
    pthread_barrierattr_destroy(&attributes);
    return forked;
}

static _Noreturn void child_main(struct forked_member *member,
                                 int (*body)(struct forked_member *member))
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    member->forked->pids[member->rank] = getpid();
    _exit(body(member));
}

int32_t forked_run(int32_t size, int (*body)(struct forked_member *member),
                   void *argument, uint64_t expendable)
{
    struct forked *forked = forked_create(size);
    pid_t pids[RANKS_MAX];
    int32_t failed = 0;

    for (int32_t i = 0; i < size; i++) {
        struct forked_member member = {forked, i, size, argument, forked->pids};

        pids[i] = fork();
        if (pids[i] < 0)
            abort();
        if (pids[i] == 0)
            child_main(&member, body);
    }
    for (int32_t i = 0; i < size; i++) {
        int status = 0;

        waitpid(pids[i], &status, 0);
        if (status != 0 && (expendable & (uint64_t)1 << i) == 0)
            failed++;
    }
    munmap(forked, sizeof(*forked));
    return failed;
}
