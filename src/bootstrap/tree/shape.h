// SPDX-License-Identifier: BSD-3-Clause
// Who is whose parent in the rendezvous' tree.
#ifndef BOOTSTRAP_TREE_SHAPE_H
#define BOOTSTRAP_TREE_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

// Of rank > 0.
static inline int32_t shape_parent(int32_t rank, int32_t radix)
{
    return (rank - 1) / radix;
}

static inline int64_t shape_first_child(int32_t rank, int32_t radix)
{
    return (int64_t)rank * radix + 1;
}

static inline bool shape_has_children(int32_t rank, int32_t size, int32_t radix)
{
    return shape_first_child(rank, radix) < size;
}

#endif
