// SPDX-License-Identifier: BSD-3-Clause
// Which documents make a step, and how they are dealt to ranks and
// micro-batches. The documents of a step, their prompts and their order depend
// on the seed and the step alone; the number of ranks only says where the cuts
// fall. It knows nothing of the model or of Tally.
//
// Documents of a step are sorted by length, longest first, and dealt in that
// order, as length-bucketed loaders do to save padding: so rank 0 has many
// valid tokens and the last rank few. The first bytes of each document are its
// prompt: they are read, but not learned (label BATCH_IGNORED), like the
// padding.
#ifndef TRAINER_BATCH_H
#define TRAINER_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "model.h"
#include "text.h"

#define BATCH_IGNORED (-100)

struct batch_params {
    const struct text_documents *documents;
    uint64_t seed;
    int32_t documents_per_step;
    int32_t ranks;         // the step is dealt to these,
    int32_t micro_batches; // so many each
};

// One document of a step.
struct batch_piece {
    const struct text_document *document;
    int32_t prompt; // bytes; the whole document: nothing to learn from it
};

// documents_per_step pieces of step `step` (the first is 1), longest first. In
// some steps (batch_step_kind) half of them, or all, are nothing but prompt.
void batch_draw(const struct batch_params *params, int64_t step,
                struct batch_piece *pieces);

// How many ranks have no valid token in the step.
int32_t batch_silent_ranks(const struct batch_params *params,
                           const struct batch_piece *pieces);

// Documents, padded to the longest: tokens = documents x longest.
struct micro_batch {
    int64_t tokens;
    uint8_t (*contexts)[MODEL_CONTEXT]; // [tokens]: the bytes before
    int32_t *labels;                    // [tokens]: the byte, or BATCH_IGNORED
    int64_t tokens_max;
};

bool micro_batch_create(int64_t tokens_max, struct micro_batch *out);
void micro_batch_free(struct micro_batch *micro);

// Fills it with the pieces.
void micro_batch_fill(struct micro_batch *micro,
                      const struct batch_piece *pieces, int32_t count);

// What one process gets of a step: the micro-batches of its rank, or of
// several.
struct batch {
    struct batch_params params;
    int32_t first;      // of all ranks' micro-batches, in the order of ranks
    int32_t count;      // micro-batches of this process
    int32_t silent;     // batch_silent_ranks of the step
    int64_t tokens_max; // of one micro-batch
    struct batch_piece *pieces;
    struct micro_batch *micro;
};

// For ranks [first_rank, first_rank + rank_count).
bool batch_create(const struct batch_params *params, int32_t first_rank,
                  int32_t rank_count, struct batch *out);
void batch_free(struct batch *batch);

// Loads the micro-batches of a step.
void batch_load(struct batch *batch, int64_t step);

#endif
