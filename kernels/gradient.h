// SPDX-License-Identifier: BSD-3-Clause
// Loss and gradient in one pass, and the gradient by itself.
#ifndef KERNELS_GRADIENT_H
#define KERNELS_GRADIENT_H

#include "loss.h"
#include "plan.h"

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

// One tile of one row a block, and the tail with the last tile. All is read
// before anything is written: a load waits behind the stores before it, and
// memory prefers many of a kind. A vector is read and written by the same warp,
// so the gradient may be the logits.
template <class E, class V>
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
    struct slopes slopes = {};

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
            softmax_slopes(variant, softmax_of(job.parts[index]),
                           factors(job).of(token.weight), job.labels.vocab);
#pragma unroll
    for (int i = 0; i < BACKWARD_DEPTH; i++) {
        const int v = begin + i * BACKWARD_THREADS;
        if (counts && v < from.whole) {
            const int k = label - v * E::count;
            struct slopes here = slopes;
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
            one = j == label ? slopes.target * variant.slope(one)
                             : gradient_of(variant, slopes, one);
        }
        row_store_one<E>(to, j, one);
    }
}

// ----------------------------------------------------- both, from one reading

// What a block has in shared memory.
struct ring {
    char *stage; // its tiles of the next row
    gpu_copy_barrier *full;
    // All warps' pairs of a row and its label's logit, two sets in turn, and
    // what counts them.
    struct sum *pairs;
    gpu_copy_barrier *gathered;
    struct numeric_record *record; // what the block adds
    struct plan *plan;
};

GPU_FN struct ring ring_at(char *shared, int held, int pairs)
{
    char *at = shared + held * ROW_TILE_BYTES;
    gpu_copy_barrier *barriers = (gpu_copy_barrier *)at;
    struct numeric_record *record = (struct numeric_record *)(at + 48);
    struct sum *sums = (struct sum *)(record + 1);

    return {shared,       barriers, sums,
            barriers + 1, record,   (struct plan *)(sums + 2 * pairs)};
}

// By one thread: has this block's part of the row copied.
template <class E>
GPU_FN void ring_fill(const struct kernel_job &job, const struct ring &ring,
                      int index, int begin, int vectors)
{
    if (index >= ring.plan->counting_count || vectors <= 0)
        return;
    const int bytes = vectors * (int)sizeof(gpu_vector);
    const struct row row = row_at<E>(job.logits, job.stride, job.width,
                                     ring.plan->counting[index].row);
    gpu_copy_expect(ring.full, bytes);
    gpu_copy(ring.stage, row_vector(row, begin), bytes, ring.full);
}

// Rows of this cluster that do not count: gradient and nll are 0.
template <class E>
GPU_FN void rows_clear(const struct kernel_job &job, const struct ring &ring,
                       int begin, int vectors)
{
    const struct plan &plan = *ring.plan;

    for (int i = 0; i < plan.other_count; i++) {
        const bool bad = plan.others[i] < 0;
        const int index = bad ? ~plan.others[i] : plan.others[i];
        const struct row to =
            row_at<E>(job.gradient, job.gradient_stride, job.width, index);
        for (int v = gpu_thread(); v < vectors; v += gpu_threads())
            gpu_store((char *)row_vector(to, begin + v), {});
        if (gpu_cluster_rank() == 0 && gpu_thread() == 0) {
            ring.record->bad_labels += bad;
            if (job.nll != NULL)
                job.nll[index] = 0;
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

// A tile's vectors from the stage, which begins with vector `begin`.
template <class E>
GPU_FN void slice_take(const char *stage, int begin, int whole, int tile,
                       struct slice<E> *slice)
{
#pragma unroll
    for (int i = 0; i < ROW_DEPTH; i++) {
        const int v = slice_begin(tile) + i * ROW_THREADS;
        slice->vector[i] =
            v < whole
                ? gpu_shared_load(stage + (v - begin) * sizeof(gpu_vector))
                : vector_minus_infinity<E>();
    }
}

// Its gradient to memory.
template <class E, class V>
GPU_FN void slice_give(const struct slice<E> &slice, const V &variant,
                       const struct slopes &slopes, int label,
                       const struct row &to, int tile)
{
#pragma unroll
    for (int i = 0; i < ROW_DEPTH; i++) {
        const int v = slice_begin(tile) + i * ROW_THREADS;
        if (v < to.whole)
            gpu_store((char *)row_vector(to, v),
                      gradient_vector<E>(variant, slopes, slice.vector[i],
                                         label - v * E::count));
    }
}

// A row that a block has registers for, by a block of its own: all is read,
// then all is written. The device deals blocks out as others end, so it matters
// not which tokens are ignored, and several on a multiprocessor do what one of
// them waits with.
template <class E> GPU_FN void loss_grad_row(const struct kernel_job &job)
{
    const plain_variant variant(job.shaping);
    const int64_t index = gpu_block();
    const struct token token = token_load(job.labels, index);
    const bool counts = token.kind == TOKEN_COUNTS;
    const struct row from = row_at<E>(job.logits, job.stride, job.width, index);
    const struct row to =
        row_at<E>(job.gradient, job.gradient_stride, job.width, index);
    const int tiles = (from.whole + ROW_TILE - 1) / ROW_TILE;
    struct sum *pairs = (struct sum *)gpu_shared();
    struct kernel_parts parts = {};
    struct numeric_record own = {};

    if (counts) {
        const int label = (int)token.label;
        struct slice<E> slices[GRAD_SLICES];
        struct sum sums[GRAD_SLICES];

        parts.target = row_load<E>(from, label);
#pragma unroll
        for (int s = 0; s < GRAD_SLICES; s++)
            slice_load<E>(from, s, &slices[s]);
#pragma unroll
        for (int s = 0; s < GRAD_SLICES; s++) {
            slice_leave_out<E>(&slices[s], s, label);
            sums[s] = sum_over_warp(slice_sum<E>(variant, slices[s]));
            if (s < tiles && gpu_lane() == 0)
                pairs[s * ROW_WARPS + gpu_warp()] = sums[s];
        }
        gpu_block_barrier();
        const struct sum sum = sum_over_pairs(pairs, tiles * ROW_WARPS);
        parts.maximum = sum.maximum;
        parts.sum = sum.total;
        const struct slopes slopes =
            softmax_slopes(variant, softmax_of(parts),
                           factors(job).of(token.weight), job.labels.vocab);
#pragma unroll
        for (int s = 0; s < GRAD_SLICES; s++)
            slice_give<E>(slices[s], variant, slopes, label, to, s);
    } else {
        for (int v = gpu_thread(); v < to.whole; v += ROW_THREADS)
            gpu_store((char *)row_vector(to, v), {});
    }
    if (gpu_thread() == 0) {
        token_finish(variant, job.labels, index, token, parts, job.nll, &own);
        record_publish(job.record, own);
    }
}

// Where a block stands in the rows of its cluster.
struct pass {
    int begin;   // its first vector of a row
    int vectors; // of a row; 0 or less: none
    int tile;    // this thread's first
    int turn;    // rows read so far
};

// The rows that count, of one plan. Each block has its tiles of a row in
// registers, while the copy engine fetches the same of the next row. Two sets
// of pairs are enough: who writes to a set again has all pairs of the row in
// between, which its readers gave after they had read.
template <class E>
GPU_FN void loss_grad_plan(const struct kernel_job &job,
                           const struct factors &factors,
                           const struct ring &ring, struct pass *pass)
{
    const plain_variant variant(job.shaping);
    const int size = gpu_cluster_size();
    const int whole = (int)(job.width / E::count);
    const int tiles = (whole + ROW_TILE - 1) / ROW_TILE;
    const int count = tiles * ROW_WARPS; // pairs, without the label's logit
    const int begin = pass->begin;
    const int bytes = pass->vectors * (int)sizeof(gpu_vector);
    const int rows = ring.plan->counting_count;
    struct slice<E> slices[GRAD_SLICES];

    for (int i = 0; i < rows; i++, pass->turn++) {
        const int turn = pass->turn;
        const struct planned now = ring.plan->counting[i];
        struct sum *pairs = ring.pairs + turn % 2 * (count + 1);
        gpu_copy_barrier *gathered = ring.gathered + turn % 2;
        // Of the label in this block's part; none if it is in another's.
        const int at = now.label * E::bytes - begin * (int)sizeof(gpu_vector);

        if (bytes > 0)
            gpu_copy_wait(ring.full, turn % 2);
#pragma unroll
        for (int s = 0; s < GRAD_SLICES; s++)
            slice_take<E>(ring.stage, begin, whole, pass->tile + s, &slices[s]);
        if (gpu_warp() == 1 && at >= 0 && at < bytes)
            pair_put(pairs + count, {E::load(ring.stage + at), 0}, gathered);
        gpu_block_barrier();
        if (gpu_thread() == 0) {
            ring_fill<E>(job, ring, i + 1, begin, pass->vectors);
            if (size > 1)
                gpu_copy_expect(gathered,
                                (count + 1) * (int)sizeof(struct sum));
        }
        // The label's place is -inf from here on: its slope is known.
#pragma unroll
        for (int s = 0; s < GRAD_SLICES; s++) {
            const int tile = pass->tile + s;
            slice_leave_out<E>(&slices[s], tile, now.label);
            if (tile < tiles)
                pair_put(pairs + tile * ROW_WARPS + gpu_warp() % ROW_WARPS,
                         sum_over_warp(slice_sum<E>(variant, slices[s])),
                         gathered);
        }
        pairs_wait(gathered, turn);
        const struct sum sum = sum_over_pairs(pairs, count);
        const struct kernel_parts parts = {sum.maximum, sum.total,
                                           pairs[count].maximum, 0};
        const struct slopes slopes =
            softmax_slopes(variant, softmax_of(parts), factors.of(now.weight),
                           job.labels.vocab);
        const struct row to =
            row_at<E>(job.gradient, job.gradient_stride, job.width, now.row);
#pragma unroll
        for (int s = 0; s < GRAD_SLICES; s++)
            slice_give<E>(slices[s], variant, slopes, now.label, to,
                          pass->tile + s);
        if (gpu_cluster_rank() == 0 && gpu_thread() == 0)
            token_finish(variant, job.labels, now.row,
                         token_of(job.labels, now.label, now.weight), parts,
                         job.nll, ring.record);
    }
}

// A cluster takes the rows that it plans to; see plan.h.
template <class E> GPU_FN void loss_grad_rows(const struct kernel_job &job)
{
    const struct factors factors(job);
    const int size = gpu_cluster_size();
    const int clusters = gpu_blocks() / size;
    const int tokens = (int)job.labels.tokens;
    const int held = gpu_threads() / ROW_THREADS * GRAD_SLICES; // tiles
    const int whole = (int)(job.width / E::count);
    const int tiles = (whole + ROW_TILE - 1) / ROW_TILE;
    const struct ring ring = ring_at(gpu_shared(), held, tiles * ROW_WARPS + 1);
    struct plan_position at = {0, 0};
    struct pass pass;

    pass.tile = gpu_cluster_rank() * held;
    pass.begin = pass.tile * ROW_TILE;
    pass.vectors = whole - pass.begin;
    if (pass.vectors > held * ROW_TILE)
        pass.vectors = held * ROW_TILE;
    pass.tile += gpu_thread() / ROW_THREADS * GRAD_SLICES;
    pass.turn = 0;
    if (gpu_thread() == 0) {
        gpu_copy_barrier_init(ring.full);
        gpu_copy_barrier_init(ring.gathered);
        gpu_copy_barrier_init(ring.gathered + 1);
        *ring.record = {};
    }
    group_barrier();
    while (at.begin < tokens) {
        const int left = tokens - at.begin;
        const int most = plan_rows(clusters);
        gpu_block_barrier();
        at = plan_make(ring.plan, job.labels, at,
                       left < most ? tokens : at.begin + most,
                       gpu_block() / size, clusters);
        if (gpu_thread() == 0)
            ring_fill<E>(job, ring, 0, pass.begin, pass.vectors);
        rows_clear<E>(job, ring, pass.begin, pass.vectors);
        loss_grad_plan<E>(job, factors, ring, &pass);
    }
    // A block may go: it has waited for all that others put into it.
    if (gpu_cluster_rank() == 0 && gpu_thread() == 0)
        record_publish(job.record, *ring.record);
}

#endif
