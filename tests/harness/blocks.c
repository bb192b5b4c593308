// SPDX-License-Identifier: BSD-3-Clause
// See blocks.h.
#include "harness/blocks.h"

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>

#define BLOCKS_MAX 4096

// What the linker's --wrap calls it: the C library's, and what stands for it.
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
char *__real_strdup(const char *text);
void __real_free(void *memory);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
char *__wrap_strdup(const char *text);
void __wrap_free(void *memory);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const void *blocks[BLOCKS_MAX];
static int count;

void blocks_watch(void)
{
    pthread_mutex_lock(&lock);
    count = 0;
    pthread_mutex_unlock(&lock);
}

int blocks_left(void)
{
    pthread_mutex_lock(&lock);
    int left = count;
    pthread_mutex_unlock(&lock);
    return left;
}

static void *add(void *memory)
{
    pthread_mutex_lock(&lock);
    if (memory != NULL) {
        if (count == BLOCKS_MAX)
            abort();
        blocks[count++] = memory;
    }
    pthread_mutex_unlock(&lock);
    return memory;
}

// Others free blocks that were not allocated here: those are passed over.
static void drop(const void *memory)
{
    pthread_mutex_lock(&lock);
    for (int i = 0; i < count; i++)
        if (blocks[i] == memory) {
            blocks[i] = blocks[--count];
            break;
        }
    pthread_mutex_unlock(&lock);
}

void *__wrap_malloc(size_t bytes)
{
    return add(__real_malloc(bytes));
}

void *__wrap_calloc(size_t number, size_t bytes)
{
    return add(__real_calloc(number, bytes));
}

void *__wrap_realloc(void *memory, size_t bytes)
{
    drop(memory);
    return add(__real_realloc(memory, bytes));
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
    return add(__real_aligned_alloc(alignment, bytes));
}

char *__wrap_strdup(const char *text)
{
    return add(__real_strdup(text));
}

void __wrap_free(void *memory)
{
    drop(memory);
    __real_free(memory);
}
