// SPDX-License-Identifier: BSD-3-Clause
// See inherited.h. The handler runs in a child of a process with threads, where
// nothing but atomics and system calls may be used: so a table of bits.
#include "bootstrap/link/inherited.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

#define WORD_BITS 64
// Descriptors beyond are not watched.
#define FD_MAX 65536

static _Atomic uint64_t watched[FD_MAX / WORD_BITS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void close_all(void)
{
    for (int i = 0; i < FD_MAX / WORD_BITS; i++) {
        uint64_t word = atomic_exchange(&watched[i], 0);

        for (int bit = 0; word != 0; bit++, word >>= 1)
            if ((word & 1) != 0)
                close(i * WORD_BITS + bit);
    }
}

// It is taken back when the library is unloaded.
static void register_handler(void)
{
    pthread_atfork(NULL, NULL, close_all);
}

void inherited_watch(int fd)
{
    pthread_once(&once, register_handler);
    if (fd >= 0 && fd < FD_MAX)
        atomic_fetch_or(&watched[fd / WORD_BITS],
                        (uint64_t)1 << (fd % WORD_BITS));
}

void inherited_close(int fd)
{
    if (fd >= 0 && fd < FD_MAX)
        atomic_fetch_and(&watched[fd / WORD_BITS],
                         ~((uint64_t)1 << (fd % WORD_BITS)));
    close(fd);
}
