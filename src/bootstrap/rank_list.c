// SPDX-License-Identifier: BSD-3-Clause
// See rank_list.h.
#include "bootstrap/rank_list.h"

#include <stdio.h>
#include <string.h>

// Named one by one; of others only the number is said.
#define NAMED_MAX 12

void rank_list_add(struct rank_list *list, int32_t rank)
{
    size_t used = strlen(list->text);

    if (list->count++ < NAMED_MAX)
        snprintf(list->text + used, sizeof(list->text) - used, "%s%d",
                 used > 0 ? ", " : "", (int)rank);
}

const char *rank_list_text(struct rank_list *list)
{
    char numbers[RANK_LIST_BYTES];

    memcpy(numbers, list->text, sizeof(numbers));
    int bytes = snprintf(list->text, sizeof(list->text), "rank%s %.150s",
                         list->count == 1 ? "" : "s", numbers);
    if (list->count > NAMED_MAX && bytes > 0)
        snprintf(list->text + bytes, sizeof(list->text) - (size_t)bytes,
                 " and %d more", (int)list->count - NAMED_MAX);
    return list->text;
}
