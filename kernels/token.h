// SPDX-License-Identifier: BSD-3-Clause
// What a token is and what it adds to a record: the host device's rules.
#ifndef KERNELS_TOKEN_H
#define KERNELS_TOKEN_H

#include "gpu.h"
#include "kernels/params.h"

enum token_kind { TOKEN_IGNORED, TOKEN_BAD, TOKEN_COUNTS };

struct token {
    enum token_kind kind;
    int64_t label;
    float weight;
    int64_t encoded; // the weight
};

GPU_FN int64_t label_load(const struct kernel_labels &labels, int64_t index)
{
    return labels.wide ? ((const int64_t *)labels.values)[index]
                       : ((const int32_t *)labels.values)[index];
}

GPU_FN float weight_load(const struct kernel_labels &labels, int64_t index)
{
    return labels.weights != NULL ? labels.weights[index] : 1;
}

GPU_FN struct token token_of(const struct kernel_labels &labels, int64_t label,
                             float weight)
{
    struct token token = {TOKEN_COUNTS, label, weight, NUMERIC_ONE_HI << 32};

    if (label == labels.ignore_index)
        token.kind = TOKEN_IGNORED;
    else if (label < 0 || label >= labels.vocab ||
             (labels.weights != NULL &&
              !numeric_encode((double)weight, &token.encoded)))
        token.kind = TOKEN_BAD;
    return token;
}

GPU_FN struct token token_load(const struct kernel_labels &labels,
                               int64_t index)
{
    return token_of(labels, label_load(labels, index),
                    weight_load(labels, index));
}

GPU_FN void record_add_token(struct numeric_record *record,
                             const struct token &token)
{
    if (token.kind == TOKEN_BAD)
        record->bad_labels++;
    if (token.kind != TOKEN_COUNTS)
        return;
    record->count++;
    numeric_lanes_add(&record->weight_hi, &record->weight_lo, token.encoded);
}

GPU_FN void record_add_loss(struct numeric_record *record,
                            const struct token &token, float loss)
{
    int64_t q;

    if (numeric_encode((double)loss * (double)token.weight, &q))
        numeric_lanes_add(&record->loss_hi, &record->loss_lo, q);
    else
        record->nonfinite++;
}

// Into device memory that others add to at the same time.
GPU_FN void record_publish(struct numeric_record *into,
                           const struct numeric_record &from)
{
    const int64_t *lanes = (const int64_t *)&from;

    if (into == NULL)
        return;
#pragma unroll
    for (int i = 0; i < 7; i++)
        if (lanes[i] != 0)
            gpu_atomic_add((int64_t *)into + i, lanes[i]);
}

GPU_FN int64_t warp_add(int64_t x)
{
    for (int mask = GPU_WARP / 2; mask > 0; mask /= 2) {
        uint32_t low = gpu_shuffle_xor((uint32_t)(uint64_t)x, mask);
        uint32_t high = gpu_shuffle_xor((uint32_t)((uint64_t)x >> 32), mask);
        x = numeric_add(x, (int64_t)((uint64_t)high << 32 | low));
    }
    return x;
}

// The same for a whole warp, whose lanes have a record each.
GPU_FN void record_publish_warp(struct numeric_record *into,
                                const struct numeric_record &from)
{
    const int64_t *lanes = (const int64_t *)&from;
    struct numeric_record sum;

#pragma unroll
    for (int i = 0; i < NUMERIC_LANES; i++)
        ((int64_t *)&sum)[i] = warp_add(lanes[i]);
    if (gpu_lane() == 0)
        record_publish(into, sum);
}

// All threads of all blocks.
GPU_FN void count_labels(const struct kernel_count &count)
{
    const int64_t all = (int64_t)gpu_blocks() * gpu_threads();
    struct numeric_record own = {};

    for (int64_t i = (int64_t)gpu_block() * gpu_threads() + gpu_thread();
         i < count.labels.tokens; i += all)
        record_add_token(&own, token_load(count.labels, i));
    record_publish_warp(count.record, own);
}

#endif
