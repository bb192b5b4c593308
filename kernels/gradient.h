// SPDX-License-Identifier: BSD-3-Clause
// Loss and gradient in one pass, and the gradient by itself.
#ifndef KERNELS_GRADIENT_H
#define KERNELS_GRADIENT_H

#include "loss.h"

// What all gradients are multiplied by. In float32, as the host device does.
struct factors {
    float scale, grad_scale;

    GPU_FN factors(const struct kernel_job &job)
        : scale(job.scale != NULL ? *job.scale : 1),
          grad_scale(job.grad_scale != NULL ? *job.grad_scale : 1)
    {
    }
    GPU_FN float of(float weight) const
    {
        return weight * scale * grad_scale;
    }
};

template <class V, class R = typename V::real>
GPU_FN float gradient_of(const V &variant, const struct slopes<R> &slopes,
                         float x)
{
    R gradient = exp_from(variant.value(x), slopes.origin) * slopes.others;

    if constexpr (V::shaped)
        gradient = (gradient - slopes.evenly) * variant.slope(x);
    return (float)gradient;
}

// `label`: the element of this vector that is the label, if it is one of them.
template <class E, class V, class R = typename V::real>
GPU_FN gpu_vector gradient_vector(const V &variant,
                                  const struct slopes<R> &slopes,
                                  const gpu_vector &logits, int label)
{
    gpu_vector out;
    float x[E::count];

    E::unpack(logits, x);
    if (label >= 0 && label < E::count) {
#pragma unroll
        for (int k = 0; k < E::count; k++)
            x[k] = k == label ? (float)slopes.target
                              : gradient_of(variant, slopes, x[k]);
    } else {
#pragma unroll
        for (int k = 0; k < E::count; k++)
            x[k] = gradient_of(variant, slopes, x[k]);
    }
    E::pack(x, &out);
    return out;
}

// ------------------------------------------------------- the gradient alone

// One tile of one row a block, and the tail with the last tile. All is read
// before anything is written: a load waits behind the stores before it, and
// memory prefers many of a kind. A vector is read and written by the same warp,
// so the gradient may be the logits.
template <class E, class V, class R = typename V::real>
GPU_FN void backward_tile(const struct kernel_job &job)
{
    const V variant(job.shaping);
    const int blocks = (int)kernel_backward_tiles(job.width / E::count);
    const int64_t index = gpu_block() / blocks;
    const int tile = gpu_block() % blocks;
    const int begin = tile * BACKWARD_TILE + gpu_thread();
    const struct token token = token_load(job.labels, index);
    const bool counts = token.kind == TOKEN_COUNTS;
    const struct row from = row_at<E>(job.logits, job.stride, job.width, index);
    const struct row to =
        row_at<E>(job.gradient, job.gradient_stride, job.width, index);
    const int label = counts ? label_column(job, token.label) : -1;
    gpu_vector x[BACKWARD_DEPTH];
    struct slopes<R> slopes = {
    };

#pragma unroll
    for (int i = 0; i < BACKWARD_DEPTH; i++) {
        const int v = begin + i * BACKWARD_THREADS;
        x[i] = {};
        if (counts && v < from.whole)
            x[i] = from.shift == 0 ? gpu_load(row_vector(from, v))
                                   : row_load_shifted(from, v);
    }
    if (counts)
        slopes =
            softmax_slopes(variant, softmax_of<R>(job.parts[index]),
                           factors(job).of(token.weight), job.labels.vocab);
#pragma unroll
    for (int i = 0; i < BACKWARD_DEPTH; i++) {
        const int v = begin + i * BACKWARD_THREADS;
        if (counts && v < from.whole) {
            const int k = label - v * E::count;
            auto here = slopes;
            if constexpr (V::shaped)
                if (k >= 0 && k < E::count)
                    here.target *= variant.slope(row_load<E>(from, label));
            x[i] = gradient_vector<E>(variant, here, x[i], k);
        }
        row_store(to, v, x[i]);
    }
    const int j = from.whole * E::count + gpu_thread();
    if (tile == blocks - 1 && j < from.width) {
        float one = 0;
        if (counts) {
            one = row_load<E>(from, j);
            one = j == label ? (float)(slopes.target * variant.slope(one))
                             : gradient_of(variant, slopes, one);
        }
        row_store_one<E>(to, j, one);
    }
}

// ----------------------------------------------------- both, from one reading

// What a block has in shared memory: all warps' pairs of a row, then its
// label's logit; and what counts them, where other blocks put some.
template <class R> struct pairs {
    gpu_put_barrier *come;
    struct sum<R> *pair;
    int count; // without the label's

    GPU_FN pairs(char *shared, int tiles)
        : come((gpu_put_barrier *)shared),
          pair((struct sum<R> *)(shared + KERNEL_BARRIER_BYTES)),
          count(tiles * ROW_WARPS)
    {
    }
};

// By all threads of a cluster, each before its first pair_put(): nobody writes
// to a block that may not have begun. Between the two there is time to load.
template <class R> GPU_FN void pairs_begin(const struct pairs<R> &pairs)
{
    if (gpu_cluster_size() == 1)
        return;
    if (gpu_thread() == 0)
        gpu_put_barrier_init(pairs.come,
                             (pairs.count + 1) * (int)sizeof(struct sum<R>));
    gpu_cluster_arrive();
}

GPU_FN void pairs_begun()
{
    if (gpu_cluster_size() > 1)
        gpu_cluster_wait();
}

// By a whole warp: its pair to the same place in all blocks of the cluster.
template <class R>
GPU_FN void pair_put(const struct pairs<R> &to, int index,
                     const struct sum<R> &pair)
{
    uint64_t words[sizeof(pair) / sizeof(uint64_t)];

    if (gpu_lane() >= gpu_cluster_size())
        return;
    if (gpu_cluster_size() == 1) {
        to.pair[index] = pair;
        return;
    }
    memcpy(words, &pair, sizeof(pair));
#pragma unroll
    for (int w = 0; w < (int)(sizeof(pair) / sizeof(uint64_t)); w++)
        gpu_put((uint64_t *)&to.pair[index] + w, words[w], to.come, gpu_lane());
}

// Until all pairs have come. No cluster barrier: it releases at the scope of
// the cluster, so it would wait for stores on their way to memory.
template <class R>
GPU_FN struct kernel_parts pairs_take(const struct pairs<R> &from)
{
    if (gpu_cluster_size() == 1)
        gpu_block_barrier();
    else
        gpu_put_wait(from.come);
    const struct sum<R> sum = sum_over_pairs(from.pair, from.count);
    return {sum.maximum, 0, sum.total, from.pair[from.count].maximum};
}

// A tile's gradient to memory.
template <class E, class S, class V, class R = typename V::real>
GPU_FN void slice_give(const S &slice, const V &variant,
                       const struct slopes<R> &slopes, int label,
                       const struct row &to, int begin)
{
#pragma unroll(S::unroll)
    for (int i = 0; i < ROW_DEPTH; i++) {
        const int v = begin + i * ROW_THREADS;
        if (v < to.whole)
            gpu_store((char *)row_vector(to, v),
                      gradient_vector<E>(variant, slopes, slice.at(i),
                                         label - v * E::count));
    }
}

// A tile's share in the row's sum. Its label's place is -inf from here on: the
// label's slope is known.
template <class E, class S, class V, class R = typename V::real>
GPU_FN void slice_share(S *slice, const V &variant, int begin, int label,
                        const struct pairs<R> &to, int tile)
{
    slice_leave_out<E>(slice, begin, label);
    const struct sum<R> sum = sum_over_warp(slice_sum<E>(variant, *slice));
    if (tile * ROW_WARPS < to.count)
        pair_put(to, tile * ROW_WARPS + gpu_warp() % ROW_WARPS, sum);
}

// What those of `count` rows, from `first` on, that do not count leave behind:
// zeros, into the vectors that a thread of a cluster has of each, nll, record.
template <class E>
GPU_FN void rows_clear(const struct kernel_job &job, int64_t first, int count,
                       int begin)
{
    const plain_variant<typename E::real> variant(job.shaping);
    const int64_t mine = first + gpu_lane();
    struct token token = {};
    struct numeric_record own = {};

    if (gpu_lane() < count && mine < job.labels.tokens)
        token = token_load(job.labels, mine);
    else
        token.kind = TOKEN_COUNTS;
    const bool clears = token.kind != TOKEN_COUNTS;
    const uint32_t rows = gpu_ballot(clears);

#pragma unroll 1
    for (int r = 0; r < count; r++) {
        if ((rows >> r & 1) == 0)
            continue;
        const struct row to =
            row_at<E>(job.gradient, job.gradient_stride, job.width, first + r);
#pragma unroll
        for (int i = 0; i < GRAD_SLICES * ROW_DEPTH; i++)
            if (begin + i * ROW_THREADS < to.whole)
                gpu_store((char *)row_vector(to, begin + i * ROW_THREADS), {});
    }
    if (gpu_cluster_rank() != 0 || gpu_warp() != 0 || !clears)
        return;
    token_finish(variant, job.labels, mine, token, {}, job.nll, &own);
    record_publish(job.record, own);
}

// A row by a cluster: 256 threads have two tiles of it, packed as they came,
// one in registers and the other, F, there too or in shared memory. All is
// read, then all is written. The device deals clusters out as others end, so it
// matters little which tokens are ignored, and several blocks on a
// multiprocessor do what one of them waits with. Rows that do not count are
// left to clusters behind those of all rows, as memory prefers many stores of a
// kind; where exponentials are of double, zeros are better stored while others
// compute.
template <class E, class F, class R = typename E::real>
GPU_FN void loss_grad_row(const struct kernel_job &job, F far,
                          char *shared_pairs)
{
    const plain_variant<R> variant(job.shaping);
    const int rank = gpu_cluster_rank();
    const int64_t index = gpu_block() / gpu_cluster_size();
    const int groups = gpu_threads() / ROW_THREADS; // of 256 threads
    const int first = rank * groups;
    const int tile = (first + gpu_thread() / ROW_THREADS) * GRAD_SLICES;
    const int begin = slice_begin(tile, gpu_thread() % ROW_THREADS);

    if (index >= job.labels.tokens) {
        rows_clear<E>(job, (index - job.labels.tokens) * GRAD_CLEAR_ROWS,
                      GRAD_CLEAR_ROWS, begin);
        return;
    }
    const struct token token = token_load(job.labels, index);
    if (token.kind != TOKEN_COUNTS) {
        if (!kernel_clears_last(E::bytes))
            rows_clear<E>(job, index, 1, begin);
        return;
    }
    // Now: later a load waits behind the stores of other blocks.
    const struct factors factors(job);
    struct row from = row_at<E>(job.logits, job.stride, job.width, index);
    const struct row to =
        row_at<E>(job.gradient, job.gradient_stride, job.width, index);
    const int tiles = row_tiles(from);
    const int label = (int)token.label;
    const struct pairs<R> pairs(shared_pairs, tiles);
    const int group = label / (E::count * ROW_TILE * GRAD_SLICES);
    struct slice<E> near;

    from.shift = 0; // as is known of rows that fit; now to the compiler, too
    pairs_begin(pairs);
    // By all, so that nobody waits for it in a branch; not before, so that
    // the release there does not.
    const float target = row_load<E>(from, label);
    // The far tile first, whose copies take no register: a little sooner than
    // the other way round (doc/kernels.md).
    slice_load<E>(from, begin + ROW_TILE, &far);
    slice_load<E>(from, begin, &near);
    pairs_begun();
    if (gpu_warp() == 0 && group >= first && group < first + groups)
        pair_put(pairs, pairs.count, {target, 0});
    slice_share<E>(&near, variant, begin, label, pairs, tile);
    gpu_copy_wait();
    slice_share<E>(&far, variant, begin + ROW_TILE, label, pairs, tile + 1);
    const struct kernel_parts parts = pairs_take(pairs);
    const struct slopes<R> slopes =
        softmax_slopes(variant, softmax_of<R>(parts), factors.of(token.weight),
                       job.labels.vocab);
    slice_give<E>(near, variant, slopes, label, to, begin);
    slice_give<E>(far, variant, slopes, label, to, begin + ROW_TILE);
    if (rank == 0 && gpu_thread() == 0) {
        struct numeric_record own = {};
        token_finish(variant, job.labels, index, token, parts, job.nll, &own);
        record_publish(job.record, own);
    }
}

#endif
