// SPDX-License-Identifier: BSD-3-Clause
// See ways.h. A line of the segment for each ordered pair, written by one.
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "doctor/job/ways.h"

#define LINE_BYTES 128 // what processors fetch together

struct line {
    _Alignas(LINE_BYTES) _Atomic uint32_t said[PAIRS_KINDS]; // number + 1
};

struct shared {
    struct pairs_way base;
    struct line *lines; // [local][local]: from, to
    int32_t local;
    int32_t self; // of locals
    int32_t *locals;
    uint32_t (*seen)[PAIRS_KINDS]; // [local]
};

size_t shared_bytes(int32_t local)
{
    return (size_t)local * (size_t)local * sizeof(struct line);
}

static struct line *line_of(const struct shared *shared, int32_t from,
                            int32_t to)
{
    return &shared->lines[(size_t)from * (size_t)shared->local + (size_t)to];
}

static bool shared_send(struct pairs_way *way, int32_t peer,
                        enum pairs_kind kind, uint32_t number)
{
    struct shared *shared = (struct shared *)way;
    int32_t to = 0;

    while (shared->locals[to] != peer)
        to++;
    atomic_store_explicit(&line_of(shared, shared->self, to)->said[kind],
                          number + 1, memory_order_release);
    return true;
}

static void shared_poll(struct pairs_way *way, struct pairs *pairs)
{
    struct shared *shared = (struct shared *)way;

    for (int32_t from = 0; from < shared->local; from++)
        for (int kind = 0; kind < PAIRS_KINDS; kind++) {
            uint32_t said = atomic_load_explicit(
                &line_of(shared, from, shared->self)->said[kind],
                memory_order_acquire);

            if (said == shared->seen[from][kind])
                continue;
            shared->seen[from][kind] = said;
            pairs_take(pairs, shared->locals[from], (enum pairs_kind)kind,
                       said - 1);
        }
}

static const struct pairs_way_ops shared_ops = {
    .send = shared_send,
    .poll = shared_poll,
};

struct pairs_way *shared_open(void *memory, const int32_t *locals,
                              int32_t local, int32_t own)
{
    struct shared *shared = calloc(1, sizeof(*shared));
    size_t count = (size_t)local;

    if (shared == NULL)
        return NULL;
    shared->base.ops = &shared_ops;
    shared->lines = memory;
    shared->local = local;
    shared->locals = calloc(count, sizeof(*shared->locals));
    shared->seen = calloc(count, sizeof(*shared->seen));
    if (shared->locals == NULL || shared->seen == NULL) {
        shared_free(&shared->base);
        return NULL;
    }
    memcpy(shared->locals, locals, count * sizeof(*locals));
    while (locals[shared->self] != own)
        shared->self++;
    return &shared->base;
}

void shared_free(struct pairs_way *way)
{
    struct shared *shared = (struct shared *)way;

    if (shared == NULL)
        return;
    free(shared->seen);
    free(shared->locals);
    free(shared);
}
