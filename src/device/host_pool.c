// SPDX-License-Identifier: BSD-3-Clause
// Threads that share out the rows of one call; see host_pool.h.
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#else
#include <fenv.h>
#endif

#include "core/error.h"
#include "device/host_pool.h"

// A lane holds 2^31 terms between folds. Folded so often, the lanes of 1024
// threads can be added.
#define ROWS_UNFOLDED_MAX ((int64_t)1 << 20)

struct host_pool {
    int32_t thread_count; // without the caller
    pthread_t *threads;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    pthread_cond_t done;
    // All of these under the mutex.
    bool closing;
    const struct host_job *job; // NULL: none to join
    uint64_t generation;        // of jobs
    int32_t working;            // threads that joined it
    struct numeric_record record;
    // Of the job: the next row to hand out.
    _Atomic int64_t next;
};

#if defined(__x86_64__)
#define MXCSR_DEFAULT 0x1f80u // to nearest, denormals kept, no exceptions

typedef unsigned float_mode_t;

static float_mode_t float_mode_enter(void)
{
    float_mode_t saved = _mm_getcsr();

    _mm_setcsr(MXCSR_DEFAULT);
    return saved;
}

static void float_mode_leave(float_mode_t saved)
{
    _mm_setcsr(saved);
}
#else
typedef fenv_t float_mode_t;

static float_mode_t float_mode_enter(void)
{
    float_mode_t saved;

    fegetenv(&saved);
    fesetenv(FE_DFL_ENV);
    return saved;
}

static void float_mode_leave(float_mode_t saved)
{
    fesetenv(&saved);
}
#endif

// Until no rows are left. The work is called through a pointer, so the compiler
// moves none of its arithmetic out of the mode.
static void share_work(struct host_pool *pool, const struct host_job *job,
                       struct numeric_record *record)
{
    float_mode_t saved = float_mode_enter();
    int64_t unfolded = 0;

    for (;;) {
        int64_t begin = atomic_fetch_add_explicit(&pool->next, job->grain,
                                                  memory_order_relaxed);
        if (begin >= job->rows)
            break;
        int64_t end =
            job->rows - begin < job->grain ? job->rows : begin + job->grain;
        job->work(job->context, begin, end, record);
        unfolded += end - begin;
        if (unfolded >= ROWS_UNFOLDED_MAX) {
            numeric_record_fold(record);
            unfolded = 0;
        }
    }
    float_mode_leave(saved);
}

static void *thread_main(void *argument)
{
    struct host_pool *pool = argument;
    uint64_t seen = 0;

    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        while (!pool->closing &&
               (pool->job == NULL || pool->generation == seen))
            pthread_cond_wait(&pool->wake, &pool->mutex);
        if (pool->closing)
            break;
        const struct host_job *job = pool->job;
        struct numeric_record record = {0};
        seen = pool->generation;
        pool->working++;
        pthread_mutex_unlock(&pool->mutex);
        share_work(pool, job, &record);
        pthread_mutex_lock(&pool->mutex);
        numeric_record_add(&pool->record, &record);
        pool->working--;
        if (pool->working == 0)
            pthread_cond_signal(&pool->done);
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

void host_pool_run(struct host_pool *pool, const struct host_job *job,
                   struct numeric_record *record)
{
    bool shared = pool->thread_count > 0 && job->rows > job->grain;

    if (job->rows == 0)
        return;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    if (!shared) {
        share_work(pool, job, record);
        return;
    }
    pthread_mutex_lock(&pool->mutex);
    memset(&pool->record, 0, sizeof(pool->record));
    pool->job = job;
    pool->generation++;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
    share_work(pool, job, record);
    // Threads that have not joined by now find nothing to do: they are not
    // waited for.
    pthread_mutex_lock(&pool->mutex);
    pool->job = NULL;
    while (pool->working > 0)
        pthread_cond_wait(&pool->done, &pool->mutex);
    numeric_record_add(record, &pool->record);
    pthread_mutex_unlock(&pool->mutex);
}

static tally_status_t start_thread(struct host_pool *pool)
{
    char name[32];
    int failed = pthread_create(&pool->threads[pool->thread_count], NULL,
                                thread_main, pool);

    if (failed != 0)
        return core_fail(TALLY_ERR_SYSTEM, "cannot start host thread %d: %s",
                         (int)pool->thread_count + 1, strerror(failed));
    pool->thread_count++;
    snprintf(name, sizeof(name), "tally-host-%d", (int)pool->thread_count);
    pthread_setname_np(pool->threads[pool->thread_count - 1], name);
    return TALLY_OK;
}

// Signals are the host program's: its own threads take them.
static tally_status_t start_threads(struct host_pool *pool, int32_t count)
{
    tally_status_t status = TALLY_OK;
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    while (status == TALLY_OK && pool->thread_count < count)
        status = start_thread(pool);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status;
}

tally_status_t host_pool_open(int32_t threads, struct host_pool **out)
{
    struct host_pool *pool = calloc(1, sizeof(*pool));

    if (pool == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for host threads");
    pool->threads = calloc((size_t)threads, sizeof(*pool->threads));
    if (pool->threads == NULL) {
        free(pool);
        return core_fail(TALLY_ERR_MEMORY, "no memory for %d host threads",
                         (int)threads);
    }
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);
    tally_status_t status = start_threads(pool, threads - 1);
    if (status != TALLY_OK) {
        host_pool_close(pool);
        return status;
    }
    *out = pool;
    return TALLY_OK;
}

void host_pool_close(struct host_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    pool->closing = true;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
    for (int32_t i = 0; i < pool->thread_count; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    free(pool->threads);
    free(pool);
}
