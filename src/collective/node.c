// SPDX-License-Identifier: BSD-3-Clause
// See node.h.
#include "collective/node.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "collective/wake.h"
#include "core/error.h"
#include "numeric/record.h"

#define LINE_BYTES 64
#define LINE_LANES 7

#define BUFFERS 2

// Beyond the slots.
enum { REMOTE_LINE = 0, WAKE_LINE = 2, OTHER_LINES = 4 };

struct line {
    int64_t lanes[LINE_LANES];
    _Atomic uint64_t sequence; // last: written when the lanes are there
};
static_assert(sizeof(struct line) == LINE_BYTES, "one cache line");
static_assert(NUMERIC_LANES == LINE_LANES + 1, "a record is a line");

// How far a slot has been read.
struct cursor {
    int32_t slot;
    uint32_t line;
};

// In the segment: a slot a rank, one for the result, a line of news, and one
// for who sleeps. Each has an even number of lines, so that no two of them
// share the pair of lines that processors fetch together.
struct node {
    struct node_shape shape;
    int32_t local_index;
    bool gathers;
    uint32_t lines; // of one buffer
    struct line *slots;
    _Atomic int32_t *remote; // rank + 1; 0: none
    int32_t told;            // what *remote says
    struct wake *wake;
    uint64_t sequence;
    struct cursor result;
    int32_t missing; // so many cursors are not done
    struct cursor cursors[];
};

static uint32_t shape_lines(const struct node_shape *shape)
{
    return shape->records + (shape->max_lanes + LINE_LANES - 1) / LINE_LANES;
}

size_t node_bytes(const struct node_shape *shape)
{
    size_t slots = (size_t)shape->local_size + 1;

    return (slots * BUFFERS * shape_lines(shape) + OTHER_LINES) *
           sizeof(struct line);
}

tally_status_t node_create(const struct node_params *params, struct node **out)
{
    const struct node_shape *shape = &params->shape;
    size_t slots = (size_t)shape->local_size + 1;
    struct node *node =
        calloc(1, sizeof(*node) + slots * sizeof(struct cursor));

    if (node == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for a node of %d ranks",
                         (int)shape->local_size);
    node->shape = *shape;
    node->local_index = params->local_index;
    node->gathers = params->gathers;
    node->lines = shape_lines(shape);
    node->slots = params->memory;
    struct line *others = node->slots + slots * BUFFERS * node->lines;
    node->remote = (_Atomic int32_t *)&others[REMOTE_LINE];
    node->wake = (struct wake *)&others[WAKE_LINE];
    wake_join(node->wake);
    *out = node;
    return TALLY_OK;
}

void node_free(struct node *node)
{
    free(node);
}

static inline struct line *slot_buffer(const struct node *node, int32_t slot)
{
    size_t buffer = (size_t)slot * BUFFERS + (node->sequence & 1);

    return node->slots + buffer * node->lines;
}

// Where a line's lanes are in lanes[8 * records + max_lanes], and how many.
static inline size_t line_lanes(const struct node *node, uint32_t line,
                                uint32_t *count)
{
    uint32_t records = node->shape.records;

    if (line < records) {
        *count = LINE_LANES;
        return (size_t)line * NUMERIC_LANES;
    }
    uint32_t first = (line - records) * LINE_LANES;
    uint32_t left = node->shape.max_lanes - first;
    *count = left < LINE_LANES ? left : LINE_LANES;
    return (size_t)records * NUMERIC_LANES + first;
}

static void slot_write(struct node *node, int32_t slot, const int64_t *lanes)
{
    struct line *line = slot_buffer(node, slot);

    for (uint32_t i = 0; i < node->lines; i++, line++) {
        uint32_t count;
        size_t first = line_lanes(node, i, &count);

        memcpy(line->lanes, lanes + first, count * sizeof(int64_t));
        atomic_store_explicit(&line->sequence, node->sequence,
                              memory_order_release);
    }
    wake_sleepers(node->wake);
}

static inline bool line_there(const struct node *node, const struct line *line)
{
    return atomic_load_explicit(&line->sequence, memory_order_acquire) ==
           node->sequence;
}

static inline void line_add(const struct node *node, uint32_t index,
                            const struct line *line, int64_t *total)
{
    uint32_t count;
    int64_t *into = total + line_lanes(node, index, &count);

    if (index < node->shape.records) {
        for (uint32_t i = 0; i < LINE_LANES; i++)
            into[i] = numeric_add(into[i], line->lanes[i]);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        into[i] = line->lanes[i] > into[i] ? line->lanes[i] : into[i];
}

void node_write(struct node *node, uint64_t sequence, const int64_t *lanes)
{
    assert(sequence == node->sequence + 1 && node->missing == 0);
    node->sequence = sequence;
    slot_write(node, node->local_index, lanes);
    for (int32_t i = 0; node->gathers && i < node->shape.local_size; i++)
        if (i != node->local_index)
            node->cursors[node->missing++] = (struct cursor){i, 0};
    node->result = (struct cursor){node->shape.local_size, 0};
}

static bool slot_add(const struct node *node, struct cursor *cursor,
                     int64_t *total)
{
    const struct line *buffer = slot_buffer(node, cursor->slot);

    for (; cursor->line < node->lines; cursor->line++) {
        const struct line *line = buffer + cursor->line;

        if (!line_there(node, line))
            return false;
        line_add(node, cursor->line, line, total);
    }
    return true;
}

tally_status_t node_gather(struct node *node, int64_t *total)
{
    for (int32_t i = 0; i < node->missing;) {
        if (slot_add(node, &node->cursors[i], total))
            node->cursors[i] = node->cursors[--node->missing];
        else
            i++;
    }
    return node->missing == 0 ? TALLY_OK : TALLY_NOT_YET;
}

void node_publish(struct node *node, const int64_t *total)
{
    slot_write(node, node->shape.local_size, total);
}

tally_status_t node_take(struct node *node, int64_t *total)
{
    const struct line *buffer = slot_buffer(node, node->result.slot);

    for (; node->result.line < node->lines; node->result.line++) {
        const struct line *line = buffer + node->result.line;
        uint32_t count;
        size_t first = line_lanes(node, node->result.line, &count);

        if (!line_there(node, line))
            return TALLY_NOT_YET;
        memcpy(total + first, line->lanes, count * sizeof(int64_t));
    }
    return TALLY_OK;
}

static bool has_come(const struct node *node, const struct cursor *cursor)
{
    return line_there(node, slot_buffer(node, cursor->slot) + cursor->line);
}

tally_status_t node_arm(struct node *node, _Atomic uint32_t **word,
                        uint32_t *seen)
{
    tally_status_t status = wake_arm(node->wake, seen);

    if (status != TALLY_OK)
        return status;
    *word = &node->wake->calls;
    if (!node->gathers && has_come(node, &node->result))
        return TALLY_NOT_YET;
    for (int32_t i = 0; i < node->missing; i++)
        if (has_come(node, &node->cursors[i]))
            return TALLY_NOT_YET;
    return TALLY_OK;
}

int32_t node_awaited(const struct node *node)
{
    for (int32_t i = 0; i < node->shape.local_size; i++) {
        const struct line *buffer = slot_buffer(node, i);

        // Written in order: the last line says it for all.
        if (!line_there(node, buffer + node->lines - 1))
            return i;
    }
    return -1;
}

void node_remote_tell(struct node *node, int32_t rank)
{
    if (rank + 1 == node->told)
        return;
    node->told = rank + 1;
    atomic_store_explicit(node->remote, node->told, memory_order_relaxed);
}

int32_t node_remote(const struct node *node)
{
    return atomic_load_explicit(node->remote, memory_order_relaxed) - 1;
}
