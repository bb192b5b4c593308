// SPDX-License-Identifier: BSD-3-Clause
// The forward pass: a cluster takes one row, a block one tile of it after the
// other. And what ranks of a vocabulary make of their parts.
#ifndef KERNELS_LOSS_H
#define KERNELS_LOSS_H

#include "row.h"
#include "token.h"

// A row's pairs and sums of logits, in shared memory.
template <class R> struct gathered {
    struct sum<R> *pairs;
    float *logit_sums;
};

template <class R> GPU_FN gathered<R> gathered_at(char *shared, int pairs)
{
    struct sum<R> *sums = (struct sum<R> *)shared;

    return {sums, (float *)(sums + pairs)};
}

// The number of pairs: the tail has one of its own.
template <class E> GPU_FN int row_pairs(const struct row &row)
{
    return row_tiles(row) * ROW_WARPS + (row.whole * E::count < row.width);
}

// By a whole warp: its pair, which all lanes have, to the cluster's first
// block.
template <class R>
GPU_FN void gathered_put(const struct gathered<R> &to, int index,
                         const struct sum<R> &pair, bool with_logits,
                         float logit_sum)
{
    if (gpu_lane() != 0)
        return;
    *gpu_remote(&to.pairs[index], 0) = pair;
    if (with_logits)
        *gpu_remote(&to.logit_sums[index], 0) = logit_sum;
}

template <class V, class R = typename V::real>
GPU_FN struct kernel_parts gathered_take(const struct gathered<R> &from,
                                         int pairs, double target)
{
    const struct sum<R> sum = sum_over_pairs(from.pairs, pairs);
    float logits = 0;

    if constexpr (V::shaped) {
        for (int i = gpu_lane(); i < pairs; i += GPU_WARP)
            logits += from.logit_sums[i];
        logits = warp_sum(logits);
    }
    return {sum.maximum, logits, sum.total, target};
}

GPU_FN void group_barrier()
{
    if (gpu_cluster_size() == 1) {
        gpu_block_barrier();
    } else {
        gpu_cluster_arrive();
        gpu_cluster_wait();
    }
}

// This block's share of the pairs of a row, to the first block. All have
// arrived at the cluster's barrier; before its first pair a block waits there.
template <class E, class V, class R = typename V::real>
GPU_FN void row_gather(const V &variant, const struct row &row, int label,
                       const struct gathered<R> &to)
{
    const int tiles = row_tiles(row);
    const int rank = gpu_cluster_rank();
    const int size = gpu_cluster_size();
    struct slice<E> slice;
    float logits = 0;

    for (int tile = rank; tile < tiles; tile += size) {
        const int begin = slice_begin(tile, gpu_thread());
        slice_load<E>(row, begin, &slice);
        slice_leave_out<E>(&slice, begin, label);
        const struct sum<R> sum = sum_over_warp(slice_sum<E>(variant, slice));
        if constexpr (V::shaped)
            logits =
                warp_sum(slice_logit_sum<E>(variant, slice, row, begin, label));
        if (tile == rank && size > 1)
            gpu_cluster_wait();
        gathered_put(to, tile * ROW_WARPS + gpu_warp(), sum, V::shaped, logits);
    }
    if (rank >= tiles && size > 1)
        gpu_cluster_wait();
    if (gpu_warp() == 0 && rank == tiles % size &&
        row.whole * E::count < row.width) {
        const struct sum<R> sum = tail_sum<E>(variant, row, label, &logits);
        gathered_put(to, tiles * ROW_WARPS, sum, V::shaped, logits);
    }
}

// The column of a label, or -1 if another rank has it.
GPU_FN int label_column(const struct kernel_job &job, int64_t label)
{
    int64_t column = label - job.begin;

    return column >= 0 && column < job.width ? (int)column : -1;
}

// All that a token adds and stores, by one thread. Without a row to look at,
// its loss is 0.
template <class V>
GPU_FN void token_finish(const V &variant, const struct kernel_labels &labels,
                         int64_t index, const struct token &token,
                         const struct kernel_parts &parts, float *nll,
                         struct numeric_record *record)
{
    float loss = 0;

    if (token.kind == TOKEN_COUNTS)
        loss = softmax_loss(variant, parts, softmax_of<typename V::real>(parts),
                            labels.vocab);
    if (nll != NULL)
        nll[index] = loss;
    record_add_token(record, token);
    if (token.kind == TOKEN_COUNTS)
        record_add_loss(record, token, loss);
}

template <class E, class V> GPU_FN void loss_row(const struct kernel_job &job)
{
    const V variant(job.shaping);
    const int size = gpu_cluster_size();
    const int rank = gpu_cluster_rank();
    const int64_t index = gpu_block() / size;
    const struct token token = token_load(job.labels, index);
    const struct row row = row_at<E>(job.logits, job.stride, job.width, index);
    const int pairs = row_pairs<E>(row);
    const struct gathered<typename E::real> gathered =
        gathered_at<typename E::real>(gpu_shared(),
                                      (int)kernel_pairs(row_tiles(row)));
    struct kernel_parts parts = {-GPU_INFINITY, 0, 0, -GPU_INFINITY};

    if (token.kind == TOKEN_COUNTS) {
        // Nobody writes to a block that may not have begun.
        if (size > 1)
            gpu_cluster_arrive();
        const int label = label_column(job, token.label);
        if (label >= 0)
            parts.target = variant.value(row_load<E>(row, label));
        row_gather<E>(variant, row, label, gathered);
        group_barrier();
        if (rank == 0 && gpu_warp() == 0)
            parts = gathered_take<V>(gathered, pairs, parts.target);
    }
    if (rank != 0 || gpu_thread() != 0)
        return;
    if (job.parts != NULL)
        job.parts[index] = parts;
    if (job.record == NULL && job.nll == NULL)
        return;
    struct numeric_record own = {};
    token_finish(variant, job.labels, index, token, parts, job.nll, &own);
    record_publish(job.record, own);
}

// Parts of the ranks of one row, in the order of ranks, by one thread.
template <class V>
GPU_FN struct kernel_parts parts_merge(const struct kernel_finish &finish,
                                       int64_t index)
{
    struct kernel_parts all = {-GPU_INFINITY, 0, 0, -GPU_INFINITY};
    const struct kernel_parts *part = finish.shards + index;

    for (int64_t r = 0; r < finish.ranks; r++)
        all.maximum =
            fmaxf(all.maximum, part[r * finish.labels.tokens].maximum);
    for (int64_t r = 0; r < finish.ranks; r++) {
        struct kernel_parts one = part[r * finish.labels.tokens];
        all.sum +=
            sum_from<double>({one.maximum, one.sum}, sum_origin(all.maximum));
        all.logit_sum += one.logit_sum;
        // -inf of all ranks but one, whose may be NaN.
        if (one.target > all.target || one.target != one.target)
            all.target = one.target;
    }
    return all;
}

template <class V> GPU_FN void finish_rows(const struct kernel_finish &finish)
{
    const V variant(finish.shaping);
    const int64_t index = (int64_t)gpu_block() * gpu_threads() + gpu_thread();
    struct numeric_record own = {};

    if (index < finish.labels.tokens) {
        struct token token = token_load(finish.labels, index);
        struct kernel_parts all = parts_merge<V>(finish, index);
        if (finish.parts != NULL)
            finish.parts[index] = all;
        token_finish(variant, finish.labels, index, token, all, finish.nll,
                     &own);
    }
    if (finish.record != NULL)
        record_publish_warp(finish.record, own);
}

#endif
