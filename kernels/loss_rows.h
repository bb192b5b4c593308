// SPDX-License-Identifier: BSD-3-Clause
// The forward pass of short, aligned rows: a block takes several of them, and
// has the first tile of the next one on its way while it reduces the one
// before. The additions are those of loss.h, in the same order.
#ifndef KERNELS_LOSS_ROWS_H
#define KERNELS_LOSS_ROWS_H

#include "loss.h"

// A block's rows.
struct rows_share {
    int64_t first;
    int count; // at most as many as a warp has lanes
};

GPU_FN struct rows_share rows_share_of(int64_t tokens)
{
    const int many = kernel_loss_rows_many(tokens, gpu_blocks());
    const int block = gpu_block();

    if (block < many)
        return {(int64_t)block * KERNEL_LOSS_ROWS, KERNEL_LOSS_ROWS};
    return {(int64_t)many * (KERNEL_LOSS_ROWS - 1) + block, 1};
}

// A block's shared memory. A row's token and sum are for the lane of the first
// warp that finishes it, which need not hold them in registers until then.
template <class R> struct rows_shared {
    struct sum<R> pairs[2][KERNEL_LOSS_ROWS_PAIRS];
    struct token tokens[KERNEL_LOSS_ROWS];
    struct sum<R> sums[KERNEL_LOSS_ROWS];
};

static_assert(sizeof(struct rows_shared<float>) <= KERNEL_LOSS_ROWS_BYTES,
              "launch.h has room");

// A lane's, of the row of its number in the share.
GPU_FN struct token lane_token(const struct kernel_labels &labels,
                               const struct rows_share &share)
{
    struct token none = {};

    none.kind = TOKEN_IGNORED;
    return gpu_lane() < share.count
               ? token_load(labels, share.first + gpu_lane())
               : none;
}

// By the first warp: keeps the lane's token, and returns its label's logit.
template <class E, class R>
GPU_FN float
lane_begin(const struct kernel_job &job, const struct rows_share &share,
           const struct token &token, int label, struct rows_shared<R> *shared)
{
    if (gpu_lane() < share.count) {
        shared->tokens[gpu_lane()] = token;
        shared->sums[gpu_lane()] = {-GPU_INFINITY, 0};
    }
    if (label < 0)
        return -GPU_INFINITY;
    return row_load<E>(
        row_at<E>(job.logits, job.stride, job.width, share.first + gpu_lane()),
        label);
}

// The lowest of the rows of a share that are still to do. Without any it has
// no vectors, and is not read.
template <class E>
GPU_FN struct row lowest_row(const struct kernel_job &job,
                             const struct rows_share &share, uint32_t todo)
{
    if (todo == 0)
        return {NULL, 0, 0, 0};
    const int64_t index = share.first + gpu_lowest_bit(todo);
    return {(const char *)job.logits + index * job.stride * E::bytes, 0,
            (int)(job.width / E::count), (int)job.width};
}

// A row's pairs. Its first tile has been loaded; what is used has the tile
// behind it loaded in its place, and then the first one of the next row.
template <class E, class V, class R = typename V::real>
GPU_FN void row_gather_ahead(const V &variant, const struct row &row,
                             const struct row &next, int label,
                             struct slice<E> *slice, struct sum<R> *pairs)
{
    const int tiles = row_tiles(row);

#pragma unroll 1
    for (int tile = 0; tile < tiles; tile++) {
        const int begin = slice_begin(tile, gpu_thread());
        slice_leave_out<E>(slice, begin, label);
        const struct sum<R> own = slice_sum<E>(variant, *slice);
        if (tile < tiles - 1)
            slice_load_aligned<E>(row, begin + ROW_TILE, slice);
        else
            slice_load_aligned<E>(next, slice_begin(0, gpu_thread()), slice);
        const struct sum<R> sum = sum_over_warp(own);
        if (gpu_lane() == 0)
            pairs[tile * ROW_WARPS + gpu_warp()] = sum;
    }
    if (gpu_warp() == 0 && row.whole * E::count < row.width) {
        float none;
        const struct sum<R> sum = tail_sum<E>(variant, row, label, &none);
        if (gpu_lane() == 0)
            pairs[tiles * ROW_WARPS] = sum;
    }
}

// By the first warp: the sum of a row whose pairs are all there, where lane
// `lane` will look for it.
template <class R>
GPU_FN void row_take(const struct sum<R> *pairs, int count, int lane,
                     struct sum<R> *to)
{
    const struct sum<R> sum = sum_over_pairs(pairs, count);

    if (gpu_lane() == lane)
        *to = sum;
}

// By the first warp, whose lanes have a row each.
template <class V, class R = typename V::real>
GPU_FN void rows_finish(const V &variant, const struct kernel_job &job,
                        const struct rows_share &share,
                        const struct rows_shared<R> &shared, float target)
{
    struct numeric_record own = {};

    if (gpu_lane() < share.count) {
        const int64_t index = share.first + gpu_lane();
        const struct sum<R> sum = shared.sums[gpu_lane()];
        const struct kernel_parts parts = {sum.maximum, 0, sum.total, target};
        if (job.parts != NULL)
            job.parts[index] = parts;
        if (job.record != NULL || job.nll != NULL)
            token_finish(variant, job.labels, index, shared.tokens[gpu_lane()],
                         parts, job.nll, &own);
    }
    if (job.record != NULL)
        record_publish_warp(job.record, own);
}

// Of the plain variant.
template <class E, class V, class R = typename V::real>
GPU_FN void loss_rows(const struct kernel_job &job)
{
    const V variant(job.shaping);
    const struct rows_share share = rows_share_of(job.labels.tokens);
    const struct token token = lane_token(job.labels, share);
    const bool counts = token.kind == TOKEN_COUNTS;
    const int own_label = counts ? label_column(job, token.label) : -1;
    uint32_t todo = gpu_ballot(counts);
    struct row next = lowest_row<E>(job, share, todo);
    struct rows_shared<R> *const shared = (struct rows_shared<R> *)gpu_shared();
    struct slice<E> slice;
    float target = -GPU_INFINITY;

    slice_load_aligned<E>(next, slice_begin(0, gpu_thread()), &slice);
    if (gpu_warp() == 0)
        target = lane_begin<E>(job, share, token, own_label, shared);
    for (int half = 0; todo != 0; half ^= 1) {
        const int i = gpu_lowest_bit(todo);
        const int label = (int)gpu_shuffle((uint32_t)own_label, i);
        const struct row row = next;
        todo &= todo - 1;
        next = lowest_row<E>(job, share, todo);
        row_gather_ahead<E>(variant, row, next, label, &slice,
                            shared->pairs[half]);
        // The other warps go on, and put the next row's pairs elsewhere: one
        // barrier a row will do.
        gpu_block_barrier();
        if (gpu_warp() == 0)
            row_take(shared->pairs[half], row_pairs<E>(row), i,
                     &shared->sums[i]);
    }
    if (gpu_warp() == 0)
        rows_finish(variant, job, share, *shared, target);
}

#endif
