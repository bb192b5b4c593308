// SPDX-License-Identifier: BSD-3-Clause
// A row of logits: who reads which of them, in which order they are added, and
// what comes of the sums.
//
// A row is whole vectors of 16 bytes, counted from its first element at any
// address, and a tail. A tile is ROW_DEPTH vectors of each of 256 threads:
//     vector v is of tile v / 2048, read by thread v % 256 as its v / 256 % 8th
// A thread takes the maximum of its vectors, then the sum of exp(x - maximum);
// warps do the same with their threads' pairs, and a row with those of its
// warps, which lie in the order of the row, the tail's pair last. Whichever
// block of a cluster reads a tile, and however: the same additions are done in
// the same order. So the bits depend on the row's values, its length and type.
#ifndef KERNELS_ROW_H
#define KERNELS_ROW_H

#include "kernels/launch.h"
#include "softmax.h"

// Numbers whose exponentials were added: their maximum, and the sum of
// exp(x - maximum), in E::real. Without any: -inf and 0.
template <class R> struct sum {
    float maximum;
    R total;
};

static_assert(sizeof(struct sum<float>) == 8 &&
                  sizeof(struct sum<double>) == 16,
              "launch.h has room");

// What stands for the maximum where all are -inf: their exponentials are 0
// then, not those of -inf - -inf.
GPU_FN float sum_origin(float maximum)
{
    return maximum == -GPU_INFINITY ? 0 : maximum;
}

GPU_FN float warp_maximum(float x)
{
    for (int mask = GPU_WARP / 2; mask > 0; mask /= 2)
        x = fmaxf(x, gpu_shuffle_xor(x, mask));
    return x;
}

// The same bits in all lanes.
template <class R> GPU_FN R warp_sum(R x)
{
    for (int mask = GPU_WARP / 2; mask > 0; mask /= 2)
        x += gpu_shuffle_xor(x, mask);
    return x;
}

// A pair's sum, of exp(x - origin) instead.
template <class R> GPU_FN R sum_from(const struct sum<R> &pair, float origin)
{
    return pair.total * exp_from(pair.maximum, (R)origin);
}

template <class R> GPU_FN sum<R> sum_over_warp(const struct sum<R> &own)
{
    const float maximum = warp_maximum(own.maximum);
    const R scaled = sum_from(own, sum_origin(maximum));

    return {maximum, warp_sum(scaled)};
}

// Of `count` pairs in shared memory, by a whole warp.
template <class R>
GPU_FN sum<R> sum_over_pairs(const struct sum<R> *pairs, int count)
{
    float maximum = -GPU_INFINITY;
    R total = 0;

    for (int i = gpu_lane(); i < count; i += GPU_WARP)
        maximum = fmaxf(maximum, pairs[i].maximum);
    maximum = warp_maximum(maximum);
    for (int i = gpu_lane(); i < count; i += GPU_WARP)
        total += sum_from(pairs[i], sum_origin(maximum));
    return {maximum, warp_sum(total)};
}

// ------------------------------------------------------------------ addresses

struct row {
    const char *floor; // of the first element, rounded down to 16 bytes
    int shift;         // how far above it the first element is, in bytes
    int whole;         // vectors
    int width;         // elements
};

template <class E>
GPU_FN struct row row_at(const void *values, int64_t stride, int64_t width,
                         int64_t index)
{
    const char *at = (const char *)values + index * stride * E::bytes;
    int shift = (int)((uintptr_t)at % sizeof(gpu_vector));

    return {at - shift, shift, (int)(width / E::count), (int)width};
}

template <class E> GPU_FN float row_load(const struct row &row, int j)
{
    return E::load(row.floor + row.shift + (int64_t)j * E::bytes);
}

GPU_FN const char *row_vector(const struct row &row, int v)
{
    return row.floor + (int64_t)v * (int)sizeof(gpu_vector);
}

// Vector v of a row that is not aligned. Only the row's own bytes are read.
GPU_FN gpu_vector row_load_shifted(const struct row &row, int v)
{
    const char *at = row_vector(row, v);

    if (v == 0 || v == row.whole - 1) {
        gpu_vector out;
        memcpy(&out, at + row.shift, sizeof(out));
        return out;
    }
    return vector_realign(gpu_load(at), gpu_load(at + sizeof(gpu_vector)),
                          row.shift);
}

GPU_FN void store_bytes(char *at, const gpu_vector &x, int begin, int end)
{
#pragma unroll
    for (int k = 0; k < (int)sizeof(x); k++)
        if (k >= begin && k < end)
            at[k] = (char)(x.word[k / 4] >> k % 4 * 8);
}

// By all lanes of a warp, with consecutive v: stores those with v < row.whole.
// A lane stores where its vector ends and the next one's begins.
GPU_FN void row_store(const struct row &row, int v, const gpu_vector &x)
{
    char *at = (char *)row_vector(row, v);

    if (row.shift == 0) {
        if (v < row.whole)
            gpu_store(at, x);
        return;
    }
    gpu_vector next;
    for (int w = 0; w < 4; w++)
        next.word[w] = gpu_shuffle_next(x.word[w]);
    if (v >= row.whole)
        return;
    const int split = (int)sizeof(x) - row.shift;
    if (gpu_lane() == 0)
        store_bytes(at + row.shift, x, 0, split);
    if (gpu_lane() < GPU_WARP - 1 && v + 1 < row.whole)
        gpu_store(at + sizeof(x), vector_realign(x, next, split));
    else
        store_bytes(at + row.shift, x, split, (int)sizeof(x));
}

template <class E>
GPU_FN void row_store_one(const struct row &row, int j, float x)
{
    char *at = (char *)row.floor + row.shift + (int64_t)j * E::bytes;
    float all[E::count] = {x};
    gpu_vector v;

    E::pack(all, &v);
    memcpy(at, &v, E::bytes);
}

// -------------------------------------------------------------------- a tile

// The vectors of a thread. Beyond the row they are -inf.
template <class E> struct slice {
    static constexpr int unroll = ROW_DEPTH;
    gpu_vector vector[ROW_DEPTH];

    GPU_FN gpu_vector at(int i) const
    {
        return vector[i];
    }
};

// The same in shared memory, where there is room for more than registers have.
template <class E> struct far_slice {
    // More takes registers.
    static constexpr int unroll = E::bytes < 4 ? 4 : 2;
    char *tile; // of 256 threads; each has to do with its own vectors alone

    GPU_FN gpu_vector *place(int i) const
    {
        return (gpu_vector *)tile + i * ROW_THREADS +
               gpu_thread() % ROW_THREADS;
    }
    GPU_FN gpu_vector at(int i) const
    {
        return gpu_load_shared(place(i));
    }
};

GPU_FN int row_tiles(const struct row &row)
{
    return (row.whole + ROW_TILE - 1) / ROW_TILE;
}

// The first vector of a tile's thread number `thread`; each next one is 256
// further.
GPU_FN int slice_begin(int tile, int thread)
{
    return tile * ROW_TILE + thread;
}

template <class E>
GPU_FN void slice_load_aligned(const struct row &row, int begin,
                               struct slice<E> *slice)
{
#pragma unroll
    for (int i = 0; i < ROW_DEPTH; i++) {
        int v = begin + i * ROW_THREADS;
        slice->vector[i] = v < row.whole ? gpu_load(row_vector(row, v))
                                         : vector_minus_infinity<E>();
    }
}

template <class E>
GPU_FN void slice_load(const struct row &row, int begin, struct slice<E> *slice)
{
    if (row.shift == 0) {
        slice_load_aligned(row, begin, slice);
    } else {
#pragma unroll
        for (int i = 0; i < ROW_DEPTH; i++) {
            int v = begin + i * ROW_THREADS;
            slice->vector[i] = v < row.whole ? row_load_shifted(row, v)
                                             : vector_minus_infinity<E>();
        }
    }
}

// Of an aligned row; there once the thread has waited for its copies.
template <class E>
GPU_FN void slice_load(const struct row &row, int begin,
                       const struct far_slice<E> *slice)
{
#pragma unroll
    for (int i = 0; i < ROW_DEPTH; i++) {
        const int v = begin + i * ROW_THREADS;
        if (v < row.whole)
            gpu_copy(slice->place(i), row_vector(row, v));
        else
            *slice->place(i) = vector_minus_infinity<E>();
    }
}

template <class E>
GPU_FN void slice_leave_out(const struct far_slice<E> *slice, int begin,
                            int label)
{
    const int at = label / E::count - begin;

    if (label >= 0 && at >= 0 && at % ROW_THREADS == 0 && at < ROW_TILE)
        *slice->place(at / ROW_THREADS) =
            vector_without<E>(slice->at(at / ROW_THREADS), label % E::count);
}

// Replaces column `label` by -inf.
template <class E>
GPU_FN void slice_leave_out(struct slice<E> *slice, int begin, int label)
{
    const int at = label / E::count - begin;

    if (label < 0 || at < 0 || at % ROW_THREADS != 0)
        return;
#pragma unroll
    for (int i = 0; i < ROW_DEPTH; i++) {
        const gpu_vector left =
            vector_without<E>(slice->vector[i], label % E::count);
        const bool here = i == at / ROW_THREADS;
#pragma unroll
        for (int w = 0; w < 4; w++)
            slice->vector[i].word[w] =
                here ? left.word[w] : slice->vector[i].word[w];
    }
}

// S: a slice of either kind, here and below.
template <class E, class S> GPU_FN float slice_maximum(const S &slice)
{
    const gpu_vector first = slice.at(0);
    uint32_t most[4] = {first.word[0], first.word[1], first.word[2],
                        first.word[3]};

#pragma unroll(S::unroll)
    for (int i = 1; i < ROW_DEPTH; i++) {
        const gpu_vector next = slice.at(i);
#pragma unroll
        for (int w = 0; w < 4; w++)
            most[w] = E::maximum(most[w], next.word[w]);
    }
    // -inf where all are NaN.
    float low = fmaxf(E::maximum_of_word(most[0]), E::maximum_of_word(most[1]));
    float high =
        fmaxf(E::maximum_of_word(most[2]), E::maximum_of_word(most[3]));
    return fmaxf(fmaxf(low, high), -GPU_INFINITY);
}

template <int count, class R> GPU_FN R tree_sum(const R *x)
{
    if constexpr (count == 1)
        return x[0];
    else
        return tree_sum<count / 2>(x) + tree_sum<count / 2>(x + count / 2);
}

template <class E, class V, class S, class R = typename V::real>
GPU_FN sum<R> slice_sum(const V &variant, const S &slice)
{
    const float maximum = (float)variant.value(slice_maximum<E>(slice));
    const R origin = sum_origin(maximum);
    R total = 0;

#pragma unroll(S::unroll)
    for (int i = 0; i < ROW_DEPTH; i++) {
        float x[E::count];
        E::unpack(slice.at(i), x);
        R exponential[E::count];
#pragma unroll
        for (int k = 0; k < E::count; k++)
            exponential[k] = exp_from(variant.value(x[k]), origin);
        total += tree_sum<E::count>(exponential);
    }
    return {maximum, total};
}

// The logits themselves, where label smoothing needs them.
template <class E, class V>
GPU_FN float slice_logit_sum(const V &variant, const struct slice<E> &slice,
                             const struct row &row, int begin, int label)
{
    float total = 0;

#pragma unroll
    for (int i = 0; i < ROW_DEPTH; i++) {
        int v = begin + i * ROW_THREADS;
        float x[E::count];
        E::unpack(slice.vector[i], x);
#pragma unroll
        for (int k = 0; k < E::count; k++)
            x[k] = v < row.whole && v * E::count + k != label
                       ? (float)variant.value(x[k])
                       : 0;
        total += tree_sum<E::count>(x);
    }
    return total;
}

// The elements after the last whole vector, by a warp; 0 or more.
template <class E, class V, class R = typename V::real>
GPU_FN sum<R> tail_sum(const V &variant, const struct row &row, int label,
                       float *logit_sum)
{
    const int j = row.whole * E::count + gpu_lane();
    const bool mine = j < row.width && j != label;
    R x = -GPU_INFINITY;

    if (mine)
        x = variant.value(row_load<E>(row, j));
    const float maximum = warp_maximum((float)x);
    if constexpr (V::shaped)
        *logit_sum = warp_sum(mine ? (float)x : 0);
    return {maximum, warp_sum(exp_from(x, (R)sum_origin(maximum)))};
}

#endif
