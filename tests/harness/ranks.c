// SPDX-License-Identifier: BSD-3-Clause
// See ranks.h.
#include "harness/ranks.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct ranks {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int32_t size;
    int32_t arrived;
    int32_t leaving;
    uint64_t round;
    bool broken;
    unsigned char *board; // [size][bytes] of the round under way
};

struct ranks_thread {
    struct ranks_member member;
    void (*body)(struct ranks_member *member);
};

static void *thread_main(void *argument)
{
    struct ranks_thread *thread = argument;

    thread->body(&thread->member);
    return NULL;
}

void ranks_run(int32_t size, void (*body)(struct ranks_member *member),
               void *argument)
{
    struct ranks ranks = {.size = size};
    struct ranks_thread *threads = calloc((size_t)size, sizeof(*threads));
    pthread_t *handles = calloc((size_t)size, sizeof(*handles));

    if (threads == NULL || handles == NULL)
        abort();
    pthread_mutex_init(&ranks.lock, NULL);
    pthread_cond_init(&ranks.changed, NULL);
    for (int32_t i = 0; i < size; i++) {
        threads[i].member = (struct ranks_member){&ranks, i, size, argument};
        threads[i].body = body;
        if (pthread_create(&handles[i], NULL, thread_main, &threads[i]) != 0)
            abort();
    }
    for (int32_t i = 0; i < size; i++)
        pthread_join(handles[i], NULL);
    pthread_cond_destroy(&ranks.changed);
    pthread_mutex_destroy(&ranks.lock);
    free(ranks.board);
    free(handles);
    free(threads);
}

int ranks_allgather(void *context, const void *send, void *recv, size_t bytes)
{
    struct ranks_member *member = context;
    struct ranks *ranks = member->ranks;
    size_t all = bytes * (size_t)ranks->size;
    int result = 0;

    pthread_mutex_lock(&ranks->lock);
    // The board of the round before is still being read.
    while (ranks->leaving > 0 && !ranks->broken)
        pthread_cond_wait(&ranks->changed, &ranks->lock);
    if (ranks->arrived == 0) {
        free(ranks->board);
        ranks->board = calloc(1, all > 0 ? all : 1);
    }
    if (bytes > 0)
        memcpy(ranks->board + bytes * (size_t)member->rank, send, bytes);
    uint64_t round = ranks->round;
    if (++ranks->arrived == ranks->size) {
        ranks->arrived = 0;
        ranks->leaving = ranks->size;
        ranks->round++;
        pthread_cond_broadcast(&ranks->changed);
    }
    while (ranks->round == round && !ranks->broken)
        pthread_cond_wait(&ranks->changed, &ranks->lock);
    if (ranks->broken) {
        result = -1;
    } else {
        if (bytes > 0)
            memcpy(recv, ranks->board, all);
        if (--ranks->leaving == 0)
            pthread_cond_broadcast(&ranks->changed);
    }
    pthread_mutex_unlock(&ranks->lock);
    return result;
}

void ranks_barrier(struct ranks_member *member)
{
    ranks_allgather(member, NULL, NULL, 0);
}

void ranks_break(struct ranks_member *member)
{
    pthread_mutex_lock(&member->ranks->lock);
    member->ranks->broken = true;
    pthread_cond_broadcast(&member->ranks->changed);
    pthread_mutex_unlock(&member->ranks->lock);
}
