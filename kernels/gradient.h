// SPDX-License-Identifier: BSD-3-Clause
// Loss and gradient in one pass, and the gradient by itself.
#ifndef KERNELS_GRADIENT_H
#define KERNELS_GRADIENT_H

#include "loss.h"

// In float32, as the host device does.
GPU_FN float gradient_factor(const struct kernel_job &job, float weight)
{
    float factor = weight;

    if (job.scale != NULL)
        factor *= *job.scale;
    if (job.grad_scale != NULL)
        factor *= *job.grad_scale;
    return factor;
}

template <class V>
GPU_FN float gradient_of(const V &variant, const struct slopes &slopes, float x)
{
    float gradient = exp_from(variant.value(x), slopes.origin) * slopes.others;

    if constexpr (V::shaped)
        gradient = (gradient - slopes.evenly) * variant.slope(x);
    return gradient;
}

// `label`: the element of this vector that is the label, if it is one of them.
template <class E, class V>
GPU_FN gpu_vector gradient_vector(const V &variant, const struct slopes &slopes,
                                  const gpu_vector &logits, int label)
{
    gpu_vector out;
    float x[E::count];

    E::unpack(logits, x);
    if (label >= 0 && label < E::count) {
#pragma unroll
        for (int k = 0; k < E::count; k++)
            x[k] =
                k == label ? slopes.target : gradient_of(variant, slopes, x[k]);
    } else {
#pragma unroll
        for (int k = 0; k < E::count; k++)
            x[k] = gradient_of(variant, slopes, x[k]);
    }
    E::pack(x, &out);
    return out;
}

// ------------------------------------------------------- the gradient alone

// One tile of one row a block, and the tail with the last tile. A vector is
// read and written by the same warp, so the gradient may be the logits.
template <class E, class V>
GPU_FN void backward_tile(const struct kernel_job &job)
{
    const V variant(job.shaping);
    const int tiles = (int)((job.width / E::count + ROW_TILE - 1) / ROW_TILE);
    const int blocks = tiles > 0 ? tiles : 1;
    const int64_t index = gpu_block() / blocks;
    const int tile = gpu_block() % blocks;
    const struct token token = token_load(job.labels, index);
    const bool counts = token.kind == TOKEN_COUNTS;
    const struct row from = row_at<E>(job.logits, job.stride, job.width, index);
    const struct row to =
        row_at<E>(job.gradient, job.gradient_stride, job.width, index);
    const int label = counts ? label_column(job, token.label) : -1;
    struct slopes slopes = {};

    if (counts)
        slopes = softmax_slopes(variant, softmax_of(job.parts[index]),
                                gradient_factor(job, token.weight),
                                job.labels.vocab);
#pragma unroll 4
    for (int i = 0; i < ROW_DEPTH; i++) {
        const int v = slice_begin(tile) + i * ROW_THREADS;
        gpu_vector x = {};
        if (counts && v < from.whole) {
            x = from.shift == 0 ? gpu_load(row_vector(from, v))
                                : row_load_shifted(from, v);
            const int k = label - v * E::count;
            struct slopes here = slopes;
            if constexpr (V::shaped)
                if (k >= 0 && k < E::count)
                    here.target *= variant.slope(row_load<E>(from, label));
            x = gradient_vector<E>(variant, here, x, k);
        }
        row_store(to, v, x);
    }
    const int j = from.whole * E::count + gpu_thread();
    if (tile == blocks - 1 && j < from.width) {
        float x = 0;
        if (counts) {
            x = row_load<E>(from, j);
            x = j == label ? slopes.target * variant.slope(x)
                           : gradient_of(variant, slopes, x);
        }
        row_store_one<E>(to, j, x);
    }
}

// ----------------------------------------------------- both, from one reading

// What a block has in shared memory besides its tiles of the next row.
struct ring {
    char *stage;
    gpu_copy_barrier *full;
    int *next; // the row on its way into the stage; tokens: none
    // All warps' pairs of a row, two sets in turn, and what counts them.
    struct sum *pairs;
    gpu_copy_barrier *gathered;
};

GPU_FN struct ring ring_at(char *shared, int held)
{
    char *at = shared + held * ROW_TILE_BYTES;
    gpu_copy_barrier *barriers = (gpu_copy_barrier *)at;

    return {shared, barriers, (int *)(at + 48), (struct sum *)(at + 64),
            barriers + 1};
}

// The first row from `index` on, in steps of `step`, that counts: by a warp.
GPU_FN int row_that_counts(const struct kernel_labels &labels, int64_t index,
                           int step)
{
    while (index < labels.tokens) {
        int64_t mine = index + (int64_t)gpu_lane() * step;
        bool counts = mine < labels.tokens &&
                      token_load(labels, mine).kind == TOKEN_COUNTS;
        uint32_t votes = gpu_ballot(counts);
        if (votes != 0)
            return (int)(index + (int64_t)gpu_first_bit(votes) * step);
        index += (int64_t)GPU_WARP * step;
    }
    return (int)labels.tokens;
}

// By warp 0: finds the next row and has this block's part of it copied.
template <class E>
GPU_FN void ring_fill(const struct kernel_job &job, const struct ring &ring,
                      int64_t from, int step, int begin, int vectors)
{
    const int next = row_that_counts(job.labels, from, step);

    if (gpu_lane() != 0)
        return;
    *ring.next = next;
    if (next >= job.labels.tokens || vectors <= 0)
        return;
    const int bytes = vectors * (int)sizeof(gpu_vector);
    const struct row row = row_at<E>(job.logits, job.stride, job.width, next);
    gpu_copy_expect(ring.full, bytes);
    gpu_copy(ring.stage, row_vector(row, begin), bytes, ring.full);
}

// Rows of this cluster that do not count: gradient and nll are 0.
template <class E>
GPU_FN void rows_clear(const struct kernel_job &job, int first, int step,
                       int begin, int vectors, struct numeric_record *record)
{
    for (int64_t i = first; i < job.labels.tokens; i += step) {
        const struct token token = token_load(job.labels, i);
        if (token.kind == TOKEN_COUNTS)
            continue;
        const struct row to =
            row_at<E>(job.gradient, job.gradient_stride, job.width, i);
        for (int v = gpu_thread(); v < vectors; v += gpu_threads())
            gpu_store((char *)row_vector(to, begin + v), {});
        if (gpu_cluster_rank() == 0 && gpu_thread() == 0) {
            record_add_token(record, token);
            if (job.nll != NULL)
                job.nll[i] = 0;
        }
    }
}

// By a whole warp: its pair to the same place in all blocks of the cluster.
GPU_FN void pair_put(struct sum *to, const struct sum &pair,
                     gpu_copy_barrier *gathered)
{
    const uint64_t bits =
        (uint64_t)bits_of_float(pair.total) << 32 | bits_of_float(pair.maximum);

    if (gpu_lane() >= gpu_cluster_size())
        return;
    if (gpu_cluster_size() == 1)
        *to = pair;
    else
        gpu_put(to, bits, gathered, gpu_lane());
}

// Until all pairs of this turn have come. No cluster barrier: that would wait
// for the gradients on their way to memory.
GPU_FN void pairs_wait(gpu_copy_barrier *gathered, int turn)
{
    if (gpu_cluster_size() == 1)
        gpu_block_barrier();
    else
        gpu_copy_wait(gathered, turn / 2 % 2);
}

// A cluster takes every `clusters`th row. Each block has one tile or two of it
// in registers, while the copy engine fetches the same of the next row.
// Two sets of pairs are enough: who writes to a set again has all pairs of the
// row in between, which its readers gave after they had read.
template <class E> GPU_FN void loss_grad_rows(const struct kernel_job &job)
{
    const plain_variant variant(job.shaping);
    const int size = gpu_cluster_size();
    const int rank = gpu_cluster_rank();
    const int held = gpu_threads() / ROW_THREADS;
    const int first = gpu_block() / size;
    const int step = gpu_blocks() / size;
    const int whole = (int)(job.width / E::count);
    const int tiles = (whole + ROW_TILE - 1) / ROW_TILE;
    const int count = tiles * ROW_WARPS; // pairs
    const int begin = rank * held * ROW_TILE;
    const int left = whole - begin;
    const int vectors = left < held * ROW_TILE ? left : held * ROW_TILE;
    const int tile = rank * held + gpu_thread() / ROW_THREADS;
    const struct ring ring = ring_at(gpu_shared(), held);
    struct numeric_record own = {};
    struct slice<E> slice;
    int turn = 0;

    if (gpu_thread() == 0) {
        gpu_copy_barrier_init(ring.full);
        gpu_copy_barrier_init(ring.gathered);
        gpu_copy_barrier_init(ring.gathered + 1);
    }
    group_barrier();
    if (gpu_warp() == 0)
        ring_fill<E>(job, ring, first, step, begin, vectors);
    rows_clear<E>(job, first, step, begin, vectors, &own);
    gpu_block_barrier();
    for (int64_t i = *ring.next; i < job.labels.tokens; turn++) {
        const struct token token = token_load(job.labels, i);
        const struct row row = row_at<E>(job.logits, job.stride, job.width, i);
        const int label = (int)token.label;
        const float target = row_load<E>(row, label);
        struct sum *pairs = ring.pairs + turn % 2 * count;
        gpu_copy_barrier *gathered = ring.gathered + turn % 2;

        if (vectors > 0)
            gpu_copy_wait(ring.full, turn % 2);
#pragma unroll
        for (int k = 0; k < ROW_DEPTH; k++) {
            int v = slice_begin(tile) + k * ROW_THREADS;
            slice.vector[k] =
                v < whole ? gpu_shared_load(ring.stage +
                                            (v - begin) * sizeof(gpu_vector))
                          : vector_minus_infinity<E>();
        }
        gpu_block_barrier();
        if (gpu_warp() == 0)
            ring_fill<E>(job, ring, i + step, step, begin, vectors);
        if (size > 1 && gpu_thread() == 0)
            gpu_copy_expect(gathered, count * (int)sizeof(struct sum));
        // The label's place is -inf from here on: its slope is known.
        slice_leave_out<E>(&slice, tile, label);
        if (tile < tiles)
            pair_put(pairs + tile * ROW_WARPS + gpu_warp() % ROW_WARPS,
                     sum_over_warp(slice_sum<E>(variant, slice)), gathered);
        pairs_wait(gathered, turn);
        const struct sum sum = sum_over_pairs(pairs, count);
        const struct kernel_parts parts = {sum.maximum, sum.total, target, 0};
        const struct slopes slopes = softmax_slopes(
            variant, softmax_of(parts), gradient_factor(job, token.weight),
            job.labels.vocab);
        if (rank == 0 && gpu_thread() == 0)
            token_finish(variant, job.labels, i, token, parts, job.nll, &own);
        const struct row to =
            row_at<E>(job.gradient, job.gradient_stride, job.width, i);
#pragma unroll
        for (int k = 0; k < ROW_DEPTH; k++) {
            int v = slice_begin(tile) + k * ROW_THREADS;
            if (v < whole)
                gpu_store((char *)row_vector(to, v),
                          gradient_vector<E>(variant, slopes, slice.vector[k],
                                             label - v * E::count));
        }
        i = *ring.next;
    }
    // A block may go: it has waited for all that others put into it.
    if (rank == 0 && gpu_thread() == 0)
        record_publish(job.record, own);
}

#endif
