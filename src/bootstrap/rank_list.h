// SPDX-License-Identifier: BSD-3-Clause
// Ranks in a sentence: "rank 3", "ranks 1, 2", "ranks 0, 1, ... and 57 more".
#ifndef BOOTSTRAP_RANK_LIST_H
#define BOOTSTRAP_RANK_LIST_H

#include <stdint.h>

#define RANK_LIST_BYTES 192

struct rank_list {
    char text[RANK_LIST_BYTES];
    int32_t count;
};

// Appends to a list that began as {0}. Ascending.
void rank_list_add(struct rank_list *list, int32_t rank);

// Completes the text, and returns it.
const char *rank_list_text(struct rank_list *list);

#endif
