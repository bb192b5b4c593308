// SPDX-License-Identifier: BSD-3-Clause
// A singly linked list that keeps its order, of elements from malloc that begin
// with their link. Appending is linear: for short lists.
#ifndef HARNESS_LIST_H
#define HARNESS_LIST_H

#include <stdlib.h>

struct link {
    struct link *next;
};

static inline void list_append(struct link **end, struct link *element)
{
    while (*end != NULL)
        end = &(*end)->next;
    element->next = NULL;
    *end = element;
}

static inline void list_free(struct link **list)
{
    while (*list != NULL) {
        struct link *element = *list;

        *list = element->next;
        free(element);
    }
}

#endif
