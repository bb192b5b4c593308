// SPDX-License-Identifier: BSD-3-Clause
// Losses of logits whose columns are spread over ranks: vocabulary-parallel, as
// tensor-parallel models have them; tally.h includes this.
//
// S ranks ("shards") have the same tokens and labels, and each its own columns
// of the logits. In place of tally_step_loss each of them
//     1. takes what its columns have of each row   tally_step_loss_part
//     2. gathers what all shards have              by the caller's all-gather
//     3. has the loss, and its columns' gradient   tally_step_loss_columns
// All of it is in the stream's order. Each logit is read once, and for a
// gradient once more; 24 bytes a token travel.
//
// The step's group has one shard of each set of tokens: the data-parallel ranks
// of this shard's place. Every shard has such a group and step, with equal
// totals.
#ifndef TALLY_COLUMNS_H
#define TALLY_COLUMNS_H

#include <tally/tally.h>

#ifdef __cplusplus
extern "C" {
#endif

// What some columns have of a row, for shards to exchange as bytes. All shards
// have the same kind of device.
typedef struct tally_row_part {
    float maximum;   // of their logits, the label's left out or not
    float logit_sum; // of their logits but the label's, where that is needed
    double sum;      // of exp(x - maximum) over their logits but the label's
    double target;   // the label's logit; -infinity where another shard has it
} tally_row_part_t;

// This rank's columns: the label of the first one, and how many. Shards'
// columns do not overlap, and together are [0, V).
typedef struct tally_columns {
    size_t size;
    uint32_t abi;
    int32_t shards; // S >= 1
    int64_t begin;  // in [0, V)
    int64_t width;  // >= 1, begin + width <= V: padding is left out
} tally_columns_t;

// Writes what this rank's columns have of each row: parts, device, [tokens].
// logits: [tokens][row_stride], of these columns, row_stride >= columns.width
// (0: columns.width); labels of whole rows, in [0, V). No part of an epoch: at
// any time. Does not block. Errors: INVALID, ABI; on a GPU SYSTEM, from the
// launch.
TALLY_API tally_status_t tally_step_loss_part(
    tally_step_t *step, uint32_t channel, const tally_logits_t *logits,
    const tally_labels_t *labels, const tally_columns_t *columns,
    tally_row_part_t *parts, tally_stream_t stream);

// In place of tally_step_loss, whose order and errors it has: the loss of whole
// rows, and the gradient of this rank's columns. parts: device, [S][tokens], in
// the order of columns, the same bytes at all shards; the first [tokens] are
// overwritten. Logits, labels, columns: those of the part. outputs: as of
// tally_step_loss, strides >= columns.width (0: columns.width); NULL: none. No
// memory is taken: it can be captured at any time.
TALLY_API tally_status_t tally_step_loss_columns(
    tally_step_t *step, uint32_t channel, const tally_logits_t *logits,
    const tally_labels_t *labels, const tally_columns_t *columns,
    tally_row_part_t *parts, const tally_loss_outputs_t *outputs,
    tally_stream_t stream);

#ifdef __cplusplus
}
#endif

#endif
