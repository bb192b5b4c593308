// SPDX-License-Identifier: BSD-3-Clause
// See agreement.h.
#include "collective/agreement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

// Before what is gathered. It is copied, for on the board it lies anywhere.
struct verdict {
    int32_t status;
    char sentence[188]; // cut off where it is longer
};

static void verdict_fill(struct verdict *verdict, tally_status_t own)
{
    memset(verdict, 0, sizeof(*verdict));
    verdict->status = own;
    if (own != TALLY_OK)
        snprintf(verdict->sentence, sizeof(verdict->sentence), "%s",
                 core_error_text());
}

static tally_status_t verdict_judge(const struct exchange_group *group,
                                    const unsigned char *board, size_t stride)
{
    struct verdict verdict;

    for (int32_t i = 0; i < group->count; i++) {
        memcpy(&verdict, board + (size_t)i * stride, sizeof(verdict));
        if (verdict.status == TALLY_OK)
            continue;
        verdict.sentence[sizeof(verdict.sentence) - 1] = '\0';
        return core_fail((tally_status_t)verdict.status, "rank %d: %s",
                         (int)group->ranks[i], verdict.sentence);
    }
    return TALLY_OK;
}

tally_status_t agreement_gather(struct exchange *exchange,
                                struct exchange_group *group,
                                tally_status_t own, const void *send,
                                void *recv, size_t bytes)
{
    size_t stride = sizeof(struct verdict) + bytes;
    size_t count = (size_t)group->count;
    struct verdict verdict;
    tally_status_t status;

    unsigned char *board = malloc((count + 1) * stride);
    if (board == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory to gather %zu bytes",
                         count * stride);
    unsigned char *message = board + count * stride;
    verdict_fill(&verdict, own);
    memcpy(message, &verdict, sizeof(verdict));
    if (bytes > 0)
        memcpy(message + sizeof(struct verdict), send, bytes);
    status = exchange_allgather(exchange, group, message, board, stride);
    if (own != TALLY_OK) { // the sentence may be another one by now
        status = core_fail(own, "%s", verdict.sentence);
        goto free_board;
    }
    if (status == TALLY_OK)
        status = verdict_judge(group, board, stride);
    for (size_t i = 0; status == TALLY_OK && bytes > 0 && i < count; i++)
        memcpy((unsigned char *)recv + i * bytes,
               board + i * stride + sizeof(struct verdict), bytes);
free_board:
    free(board);
    return status;
}
