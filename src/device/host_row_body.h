// SPDX-License-Identifier: BSD-3-Clause
// The walks over a row, in terms of `struct vec` (16 floats) and its vec_*
// functions, which the file that includes this one defines for its instruction
// set. All of them do the same IEEE operations in the same order, so they give
// the same bits:
//   * a block is 64 elements, four vectors; a chunk is 32 blocks;
//   * element j of a chunk is added in lane j mod 16, the four of a block in
//     pairs first; the 16 lanes of a chunk are added in double as a tree;
//   * a short last block is filled up with -inf, whose exponential is 0, as is
//     the label's place;
//   * products and sums are not contracted.
#ifndef DEVICE_HOST_ROW_BODY_H
#define DEVICE_HOST_ROW_BODY_H

#include <math.h>

#include "device/host_element.h"
#include "device/host_row.h"
#include "numeric/exp.h"

// A walk is compiled once for each type, with `type` known.
#define ALWAYS_INLINE static inline __attribute__((always_inline))

#define LANES 16
#define VECTORS 4 // of a block
#define BLOCK ((int64_t)(LANES * VECTORS))
#define CHUNK (32 * BLOCK)
#define BLOCK_BYTES_MAX (LANES * VECTORS * 4)
#define CACHE_LINE 64

// Ahead of the sums, which wait for arithmetic while the memory could work.
#define PREFETCH_BYTES 8192

struct block {
    struct vec v[VECTORS];
};

ALWAYS_INLINE struct vec vec_load(enum host_row_type type, const char *at)
{
    return type == HOST_ROW_F32    ? vec_load_f32(at)
           : type == HOST_ROW_BF16 ? vec_load_bf16(at)
                                   : vec_load_f16(at);
}

ALWAYS_INLINE void vec_store(enum host_row_type type, char *at, struct vec x)
{
    if (type == HOST_ROW_F32)
        vec_store_f32(at, vec_canonical(x));
    else if (type == HOST_ROW_BF16)
        vec_store_bf16(at, vec_canonical(x));
    else
        vec_store_f16(at, vec_canonical(x));
}

ALWAYS_INLINE struct block block_load(enum host_row_type type, const char *at)
{
    int64_t bytes = LANES * host_element_size(type);

    return (struct block){{vec_load(type, at), vec_load(type, at + bytes),
                           vec_load(type, at + 2 * bytes),
                           vec_load(type, at + 3 * bytes)}};
}

ALWAYS_INLINE void block_store(enum host_row_type type, char *at,
                               const struct block *block)
{
    int64_t bytes = LANES * host_element_size(type);

    for (int i = 0; i < VECTORS; i++)
        vec_store(type, at + i * bytes, block->v[i]);
}

// The block with -inf after `count` elements, and in the place `hole` if that
// is one of them.
ALWAYS_INLINE struct block block_load_part(enum host_row_type type,
                                           const char *at, int64_t count,
                                           int64_t hole)
{
    char copy[BLOCK_BYTES_MAX];

    memcpy(copy, at, (size_t)(count * host_element_size(type)));
    for (int64_t j = count; j < BLOCK; j++)
        host_element_store(type, copy, j, -INFINITY);
    if (hole >= 0 && hole < count)
        host_element_store(type, copy, hole, -INFINITY);
    return block_load(type, copy);
}

ALWAYS_INLINE void prefetch_block(enum host_row_type type, const char *at)
{
    // A number: it may lie beyond the row, where a pointer may not.
    uintptr_t ahead = (uintptr_t)at + PREFETCH_BYTES;
    int64_t bytes = BLOCK * host_element_size(type);

    for (int64_t i = 0; i < bytes; i += CACHE_LINE)
        __builtin_prefetch((const void *)(ahead + (uintptr_t)i));
}

// exp(x - maximum) for x <= maximum, within 1.1 units in the last place; 0
// below about 2^-126. With n = round((x - maximum) / ln 2) it is
// 2^n exp(r), |r| <= ln 2 / 2: Cody and Waite's reduction and a polynomial.
ALWAYS_INLINE struct vec vec_exp(struct vec x, struct vec maximum)
{
    // n + 127 ends in the low bits of this sum, as 2^n wants it.
    const struct vec rounder = vec_splat(12582912.0f + 127.0f); // 1.5 * 2^23
    const struct vec lowest = vec_splat(-88.0f); // n is -127: 2^n reads 0
    struct vec d = vec_max(lowest, vec_sub(x, maximum));
    struct vec biased = vec_add(vec_mul(d, vec_splat(1.44269504f)), rounder);
    struct vec n = vec_sub(biased, rounder);
    struct vec r = vec_sub(d, vec_mul(n, vec_splat(0.693359375f)));
    r = vec_sub(r, vec_mul(n, vec_splat(-2.12194440e-4f)));
    struct vec p = vec_splat(1.381422160193324e-3f);
    p = vec_add(vec_mul(p, r), vec_splat(8.36889911442995e-3f));
    p = vec_add(vec_mul(p, r), vec_splat(4.166840389370918e-2f));
    p = vec_add(vec_mul(p, r), vec_splat(1.666651964187622e-1f));
    p = vec_add(vec_mul(p, r), vec_splat(4.999999403953552e-1f));
    p = vec_add(vec_mul(p, r), vec_splat(1.0f));
    p = vec_add(vec_mul(p, r), vec_splat(1.0f));
    return vec_mul(p, vec_shift_to_exponent(biased));
}

ALWAYS_INLINE struct vec block_sum(const struct block *block,
                                   struct vec maximum)
{
    struct vec low =
        vec_add(vec_exp(block->v[0], maximum), vec_exp(block->v[1], maximum));
    struct vec high =
        vec_add(vec_exp(block->v[2], maximum), vec_exp(block->v[3], maximum));

    return vec_add(low, high);
}

// The largest of those that are not NaN; -inf if all are.
ALWAYS_INLINE float chunk_maximum(enum host_row_type type, const char *at,
                                  int64_t count)
{
    int64_t bytes = BLOCK * host_element_size(type);
    struct vec lowest = vec_splat(-INFINITY);
    struct block top = {{lowest, lowest, lowest, lowest}};
    float lanes[LANES];

    for (; count > 0; at += bytes, count -= BLOCK) {
        struct block block = count >= BLOCK
                                 ? block_load(type, at)
                                 : block_load_part(type, at, count, -1);
        for (int i = 0; i < VECTORS; i++)
            top.v[i] = vec_max(block.v[i], top.v[i]);
    }
    vec_store_f32(lanes, vec_max(vec_max(top.v[0], top.v[1]),
                                 vec_max(top.v[2], top.v[3])));
    float maximum = lanes[0];
    for (int i = 1; i < LANES; i++)
        maximum = lanes[i] > maximum ? lanes[i] : maximum;
    return maximum;
}

// The exponentials without that of place `hole` (negative or beyond: none).
ALWAYS_INLINE double chunk_sum(enum host_row_type type, const char *at,
                               int64_t count, int64_t hole, float maximum)
{
    int64_t bytes = BLOCK * host_element_size(type);
    struct vec top = vec_splat(maximum);
    struct vec sum = vec_splat(0);
    float lanes[LANES];
    double tree[LANES];

    for (; count > 0; at += bytes, count -= BLOCK, hole -= BLOCK) {
        prefetch_block(type, at);
        if (count >= BLOCK && (uint64_t)hole >= (uint64_t)BLOCK) {
            struct block block = block_load(type, at);
            sum = vec_add(sum, block_sum(&block, top));
        } else {
            struct block block =
                block_load_part(type, at, count < BLOCK ? count : BLOCK, hole);
            sum = vec_add(sum, block_sum(&block, top));
        }
    }
    vec_store_f32(lanes, sum);
    for (int i = 0; i < LANES; i++)
        tree[i] = (double)lanes[i];
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            tree[i] += tree[i + width];
    return tree[0];
}

ALWAYS_INLINE void row_sum(enum host_row_type type, const void *logits,
                           int64_t vocab, int64_t label,
                           struct host_row_sum *out)
{
    float maximum = -INFINITY;
    double others = 0;

    for (int64_t start = 0; start < vocab; start += CHUNK) {
        const char *at = (const char *)logits + start * host_element_size(type);
        int64_t count = vocab - start < CHUNK ? vocab - start : CHUNK;
        float top = chunk_maximum(type, at, count);
        if (top > maximum) {
            others *= numeric_exp((double)maximum - (double)top);
            maximum = top;
        }
        // As long as all are -inf, any other number stands for the maximum:
        // their exponentials are 0, and not those of -inf - -inf.
        others += chunk_sum(type, at, count, label - start,
                            maximum == -INFINITY ? 0 : maximum);
    }
    out->maximum = maximum;
    out->others = others;
}

ALWAYS_INLINE void row_gradient(enum host_row_type type, const char *logits,
                                char *gradient, int64_t vocab, float maximum,
                                float factor)
{
    int64_t size = host_element_size(type);
    struct vec top = vec_splat(maximum);
    struct vec factors = vec_splat(factor);

    for (int64_t start = 0; start < vocab; start += BLOCK) {
        const char *from = logits + start * size;
        char *to = gradient + start * size;
        char copy[BLOCK_BYTES_MAX];
        int64_t count = vocab - start;
        struct block block = count >= BLOCK
                                 ? block_load(type, from)
                                 : block_load_part(type, from, count, -1);
        for (int i = 0; i < VECTORS; i++)
            block.v[i] = vec_mul(vec_exp(block.v[i], top), factors);
        if (count >= BLOCK) {
            block_store(type, to, &block);
        } else {
            block_store(type, copy, &block);
            memcpy(to, copy, (size_t)(count * size));
        }
    }
}

#define DEFINE_WALKS(name, type)                                               \
    static void sum_##name(const void *logits, int64_t vocab, int64_t label,   \
                           struct host_row_sum *out)                           \
    {                                                                          \
        row_sum(type, logits, vocab, label, out);                              \
    }                                                                          \
    static void gradient_##name(const void *logits, void *gradient,            \
                                int64_t vocab, float maximum, float factor)    \
    {                                                                          \
        row_gradient(type, logits, gradient, vocab, maximum, factor);          \
    }

DEFINE_WALKS(f32, HOST_ROW_F32)
DEFINE_WALKS(bf16, HOST_ROW_BF16)
DEFINE_WALKS(f16, HOST_ROW_F16)

#define HOST_ROW_WALKS                                                         \
    .sum = {[HOST_ROW_F32] = sum_f32,                                          \
            [HOST_ROW_BF16] = sum_bf16,                                        \
            [HOST_ROW_F16] = sum_f16},                                         \
    .gradient = {[HOST_ROW_F32] = gradient_f32,                                \
                 [HOST_ROW_BF16] = gradient_bf16,                              \
                 [HOST_ROW_F16] = gradient_f16}

#endif
