// SPDX-License-Identifier: BSD-3-Clause
// See batch.h.
#include "batch.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "../fail.h"
#include "random.h"

// Every SILENT_PERIOD steps the shorter half of the documents is nothing but
// prompt, and a few steps later all of them.
#define SILENT_PERIOD 40
#define SILENT_HALF 13
#define SILENT_ALL 17

// Prompts are at most this part of a document.
#define PROMPT_NUMERATOR 3
#define PROMPT_DENOMINATOR 5

static int longest_first(const void *left, const void *right)
{
    const struct batch_piece *a = left;
    const struct batch_piece *b = right;

    if (a->document->length != b->document->length)
        return a->document->length > b->document->length ? -1 : 1;
    if (a->document != b->document)
        return a->document < b->document ? -1 : 1;
    return (a->prompt > b->prompt) - (a->prompt < b->prompt);
}

// The first piece that is nothing but prompt in this step.
static int32_t silent_from(int64_t step, int32_t count)
{
    if (step % SILENT_PERIOD == SILENT_ALL)
        return 0;
    if (step % SILENT_PERIOD == SILENT_HALF)
        return count / 2;
    return count;
}

void batch_draw(const struct batch_params *params, int64_t step,
                struct batch_piece *pieces)
{
    const struct text_documents *documents = params->documents;
    int32_t count = params->documents_per_step;
    uint64_t state = params->seed;

    state = random_next(&state) + (uint64_t)step;
    for (int32_t i = 0; i < count; i++) {
        pieces[i].document =
            &documents->items[random_below(&state, documents->count)];
        int32_t length = pieces[i].document->length;
        pieces[i].prompt = random_below(
            &state, length * PROMPT_NUMERATOR / PROMPT_DENOMINATOR + 1);
    }
    qsort(pieces, (size_t)count, sizeof(*pieces), longest_first);
    for (int32_t i = silent_from(step, count); i < count; i++)
        pieces[i].prompt = pieces[i].document->length;
}

// The first piece of micro-batch `index` of all ranks' micro-batches.
static int32_t first_piece(const struct batch_params *params, int32_t index)
{
    int64_t all = (int64_t)params->ranks * params->micro_batches;

    return (int32_t)(index * (int64_t)params->documents_per_step / all);
}

int32_t batch_silent_ranks(const struct batch_params *params,
                           const struct batch_piece *pieces)
{
    int32_t silent = 0;

    for (int32_t rank = 0; rank < params->ranks; rank++) {
        int32_t piece = first_piece(params, rank * params->micro_batches);
        int32_t end = first_piece(params, (rank + 1) * params->micro_batches);
        while (piece < end &&
               pieces[piece].prompt == pieces[piece].document->length)
            piece++;
        silent += piece == end;
    }
    return silent;
}

bool micro_batch_create(int64_t tokens_max, struct micro_batch *out)
{
    struct micro_batch micro = {.tokens_max = tokens_max};

    micro.contexts = calloc((size_t)tokens_max, sizeof(*micro.contexts));
    micro.labels = calloc((size_t)tokens_max, sizeof(*micro.labels));
    if (micro.contexts == NULL || micro.labels == NULL) {
        micro_batch_free(&micro);
        return trainer_fail("no memory for a micro-batch of %lld tokens",
                            (long long)tokens_max);
    }
    *out = micro;
    return true;
}

void micro_batch_free(struct micro_batch *micro)
{
    free(micro->labels);
    free(micro->contexts);
}

// One row of a micro-batch: `columns` tokens. What comes before the document
// reads as zero bytes.
static void row_fill(uint8_t (*contexts)[MODEL_CONTEXT], int32_t *labels,
                     int32_t columns, const struct batch_piece *piece)
{
    const struct text_document *document = piece->document;
    uint8_t context[MODEL_CONTEXT] = {0};

    for (int32_t t = 0; t < columns; t++) {
        bool inside = t < document->length;
        memcpy(contexts[t], context, sizeof(context));
        labels[t] =
            inside && t >= piece->prompt ? document->bytes[t] : BATCH_IGNORED;
        memmove(context, context + 1, sizeof(context) - 1);
        context[MODEL_CONTEXT - 1] = inside ? document->bytes[t] : 0;
    }
}

void micro_batch_fill(struct micro_batch *micro,
                      const struct batch_piece *pieces, int32_t count)
{
    int32_t columns = 0;

    for (int32_t i = 0; i < count; i++)
        if (pieces[i].document->length > columns)
            columns = pieces[i].document->length;
    micro->tokens = (int64_t)count * columns;
    assert(micro->tokens <= micro->tokens_max);
    for (int32_t i = 0; i < count; i++)
        row_fill(micro->contexts + (int64_t)i * columns,
                 micro->labels + (int64_t)i * columns, columns, &pieces[i]);
}

bool batch_create(const struct batch_params *params, int32_t first_rank,
                  int32_t rank_count, struct batch *out)
{
    struct batch batch = {.params = *params};
    int32_t all = params->ranks * params->micro_batches;

    batch.first = first_rank * params->micro_batches;
    batch.count = rank_count * params->micro_batches;
    batch.tokens_max = (int64_t)TEXT_DOCUMENT_MAX *
                       ((params->documents_per_step + all - 1) / all);
    batch.pieces =
        calloc((size_t)params->documents_per_step, sizeof(*batch.pieces));
    batch.micro = calloc((size_t)batch.count, sizeof(*batch.micro));
    if (batch.pieces == NULL || batch.micro == NULL) {
        trainer_fail("no memory for %d documents in %d micro-batches",
                     params->documents_per_step, batch.count);
        goto free_batch;
    }
    for (int32_t i = 0; i < batch.count; i++)
        if (!micro_batch_create(batch.tokens_max, &batch.micro[i]))
            goto free_batch;
    *out = batch;
    return true;

free_batch:
    batch_free(&batch);
    return false;
}

void batch_free(struct batch *batch)
{
    for (int32_t i = 0; batch->micro != NULL && i < batch->count; i++)
        micro_batch_free(&batch->micro[i]);
    free(batch->micro);
    free(batch->pieces);
}

void batch_load(struct batch *batch, int64_t step)
{
    const struct batch_params *params = &batch->params;

    batch_draw(params, step, batch->pieces);
    batch->silent = batch_silent_ranks(params, batch->pieces);
    for (int32_t i = 0; i < batch->count; i++) {
        int32_t piece = first_piece(params, batch->first + i);
        int32_t end = first_piece(params, batch->first + i + 1);
        micro_batch_fill(&batch->micro[i], batch->pieces + piece, end - piece);
    }
}
