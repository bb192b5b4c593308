// SPDX-License-Identifier: BSD-3-Clause
// The walks over a row, in terms of `struct vec` (16 floats), `struct bits` (64
// bytes) and their functions, which the file that includes this one defines for
// its instruction set. All of them do the same IEEE operations in the same
// order, so they give the same bits:
//   * a block is 64 elements, four vectors; a chunk is 32 blocks;
//   * a block's four vectors are added in pairs, those to the chunk's 16 lanes,
//     and these in double as a tree;
//   * a short last block is filled up with -inf, whose exponential is 0, as is
//     the label's place;
//   * products and sums are not contracted.
#ifndef DEVICE_HOST_ROW_BODY_H
#define DEVICE_HOST_ROW_BODY_H

#include <math.h>
#include <stdbool.h>

#include "device/host_element.h"
#include "device/host_row.h"
#include "numeric/exp.h"

// A walk is compiled once for each type, with `type` known.
#define ALWAYS_INLINE static inline __attribute__((always_inline))

#define LANES 16
#define BLOCK ((int64_t)(4 * LANES))
#define CHUNK (32 * BLOCK)
#define BLOCK_BYTES_MAX (4 * LANES * 4)
#define BITS_BYTES 64
#define CACHE_LINE 64

// Added to a number and taken away again it rounds to an integer, and n + 127
// ends in the low bits of the sum, as the exponent of 2^n: 1.5 * 2^23 + 127.
#define ROUNDER 12583039.0f

// Ahead of the sums, which wait for arithmetic while the memory could work.
#define PREFETCH_BYTES 8192

// Four at a time, step by step: one alone would wait for each result.
struct block {
    struct vec a, b, c, d;
};

ALWAYS_INLINE struct block block_splat(float x)
{
    struct vec all = vec_splat(x);

    return (struct block){all, all, all, all};
}

ALWAYS_INLINE struct block block_add(struct block x, struct block y)
{
    return (struct block){vec_add(x.a, y.a), vec_add(x.b, y.b),
                          vec_add(x.c, y.c), vec_add(x.d, y.d)};
}

ALWAYS_INLINE struct block block_sub(struct block x, struct block y)
{
    return (struct block){vec_sub(x.a, y.a), vec_sub(x.b, y.b),
                          vec_sub(x.c, y.c), vec_sub(x.d, y.d)};
}

ALWAYS_INLINE struct block block_mul(struct block x, struct block y)
{
    return (struct block){vec_mul(x.a, y.a), vec_mul(x.b, y.b),
                          vec_mul(x.c, y.c), vec_mul(x.d, y.d)};
}

ALWAYS_INLINE struct block block_max(struct block x, struct block y)
{
    return (struct block){vec_max(x.a, y.a), vec_max(x.b, y.b),
                          vec_max(x.c, y.c), vec_max(x.d, y.d)};
}

ALWAYS_INLINE struct block block_shift_to_exponent(struct block x)
{
    return (struct block){
        vec_shift_to_exponent(x.a), vec_shift_to_exponent(x.b),
        vec_shift_to_exponent(x.c), vec_shift_to_exponent(x.d)};
}

ALWAYS_INLINE struct block block_power(struct block x)
{
    return (struct block){vec_power(x.a), vec_power(x.b), vec_power(x.c),
                          vec_power(x.d)};
}

ALWAYS_INLINE struct block block_canonical(struct block x)
{
    return (struct block){vec_canonical(x.a), vec_canonical(x.b),
                          vec_canonical(x.c), vec_canonical(x.d)};
}

// x * y + z, rounded twice.
ALWAYS_INLINE struct block block_mul_add(struct block x, struct block y,
                                         struct block z)
{
    return block_add(block_mul(x, y), z);
}

// Where the elements of a block go is a matter of the type: of two bf16 in 32
// bits the upper one is a float32 but for its lower half, so they go to the
// same lane of two vectors. The others go where they are: 16 to a vector.
ALWAYS_INLINE struct block block_load(enum host_row_type type, const char *at)
{
    if (type == HOST_ROW_BF16) {
        struct bits low = bits_load(at);
        struct bits high = bits_load(at + BITS_BYTES);
        return (struct block){bf16_lower(low), bf16_upper(low),
                              bf16_lower(high), bf16_upper(high)};
    }
    if (type == HOST_ROW_F16)
        return (struct block){vec_load_f16(at), vec_load_f16(at + 32),
                              vec_load_f16(at + 64), vec_load_f16(at + 96)};
    return (struct block){vec_load_f32(at), vec_load_f32(at + 64),
                          vec_load_f32(at + 128), vec_load_f32(at + 192)};
}

ALWAYS_INLINE void block_store(enum host_row_type type, char *at,
                               struct block x)
{
    x = block_canonical(x);
    if (type == HOST_ROW_BF16) {
        bits_store(at, bf16_round(x.a, x.b));
        bits_store(at + BITS_BYTES, bf16_round(x.c, x.d));
    } else if (type == HOST_ROW_F16) {
        vec_store_f16(at, x.a);
        vec_store_f16(at + 32, x.b);
        vec_store_f16(at + 64, x.c);
        vec_store_f16(at + 96, x.d);
    } else {
        vec_store_f32(at, x.a);
        vec_store_f32(at + 64, x.b);
        vec_store_f32(at + 128, x.c);
        vec_store_f32(at + 192, x.d);
    }
}

// Copies the block, with -inf after `count` elements, and in the place `hole`
// if that is one of them.
ALWAYS_INLINE void block_fill_up(enum host_row_type type, const char *at,
                                 int64_t count, int64_t hole, char *copy)
{
    memcpy(copy, at, (size_t)(count * host_element_size(type)));
    for (int64_t j = count; j < BLOCK; j++)
        host_element_store(type, copy, j, -INFINITY);
    if (hole >= 0 && hole < count)
        host_element_store(type, copy, hole, -INFINITY);
}

ALWAYS_INLINE void prefetch_block(enum host_row_type type, const char *at)
{
    // A number: it may lie beyond the row, where a pointer may not.
    uintptr_t ahead = (uintptr_t)at + PREFETCH_BYTES;
    int64_t bytes = BLOCK * host_element_size(type);

    for (int64_t i = 0; i < bytes; i += CACHE_LINE)
        __builtin_prefetch((const void *)(ahead + (uintptr_t)i));
}

// exp(x - maximum) for x <= maximum; 0 below about 2^-126. With
// n = round((x - maximum) / ln 2) it is 2^n exp(r), |r| <= ln 2 / 2: Cody and
// Waite's reduction and a polynomial; within 1.2 units in the last place.
ALWAYS_INLINE struct block block_exp_float(struct block x, struct block maximum)
{
    const struct block rounder = block_splat(ROUNDER);
    struct block d = block_max(block_splat(-88), block_sub(x, maximum));
    struct block biased = block_mul_add(d, block_splat(1.44269504f), rounder);
    struct block n = block_sub(biased, rounder);
    struct block r = block_sub(d, block_mul(n, block_splat(0.693359375f)));
    r = block_sub(r, block_mul(n, block_splat(-2.12194440e-4f)));
    struct block square = block_mul(r, r);
    struct block low =
        block_mul_add(block_splat(0.166665196f), r, block_splat(0.49999994f));
    struct block high = block_mul_add(block_splat(8.36889911e-3f), r,
                                      block_splat(4.16684039e-2f));
    high = block_mul_add(block_splat(1.38142216e-3f), square, high);
    low = block_mul_add(high, square, low);
    low = block_mul_add(low, square, r);
    low = block_add(low, block_splat(1));
    return block_mul(low, block_shift_to_exponent(biased));
}

// The same for logits of 8 or 11 bits, with less work: with
// i + f = 32 (x - maximum) / ln 2 rounded, i an integer, it is 2^(i / 32) from
// a table and a polynomial of f. Its relative error grows with the distance, by
// 2^-24 each, but what is far below the maximum adds little to a sum, and its
// gradient is rounded to so few bits.
ALWAYS_INLINE struct block block_exp_half(struct block x, struct block maximum)
{
    const struct block rounder = block_splat(12582912); // 1.5 * 2^23
    // Less than -127 ln 2: there the table has 0.
    struct block d = block_max(block_splat(-88.03f), block_sub(x, maximum));
    struct block t = block_mul(d, block_splat(46.1662407f));
    struct block rounded = block_add(t, rounder);
    struct block f = block_sub(t, block_sub(rounded, rounder));
    struct block p = block_mul_add(block_splat(0.000234596198f), f,
                                   block_splat(0.0216611661f));
    p = block_mul_add(p, f, block_splat(1));
    return block_mul(p, block_power(rounded));
}

ALWAYS_INLINE struct block block_exp(enum host_row_type type, struct block x,
                                     struct block maximum)
{
    return type == HOST_ROW_F32 ? block_exp_float(x, maximum)
                                : block_exp_half(x, maximum);
}

// The lanes' sum of the exponentials.
ALWAYS_INLINE struct vec block_sum(enum host_row_type type, struct block x,
                                   struct block maximum)
{
    struct block e = block_exp(type, x, maximum);

    return vec_add(vec_add(e.a, e.b), vec_add(e.c, e.d));
}

// The largest and the least of the elements, taken for signed integers.
struct extremes {
    struct bits most, least;
};

ALWAYS_INLINE void extremes_take(enum host_row_type type,
                                 struct extremes *extremes, const char *at)
{
    struct bits bits = bits_load(at);

    if (type == HOST_ROW_F32) {
        extremes->most = bits_max32(bits, extremes->most);
        extremes->least = bits_min32(bits, extremes->least);
    } else {
        extremes->most = bits_max16(bits, extremes->most);
        extremes->least = bits_min16(bits, extremes->least);
    }
}

// The largest element. Floating-point numbers are a sign and a magnitude: their
// order is that of integers if they are positive, and the reverse if not. So it
// is the largest integer if that is not negative, and else the least. A NaN may
// win or lose: the row is NaN in any case.
ALWAYS_INLINE float extremes_maximum(enum host_row_type type,
                                     const struct extremes *extremes)
{
    bool wide = type == HOST_ROW_F32;
    int16_t most16[32], least16[32];
    int32_t most32[16], least32[16];
    int32_t most = INT32_MIN;
    int32_t least = INT32_MAX;
    int32_t bits;

    memcpy(most16, &extremes->most, sizeof(most16));
    memcpy(least16, &extremes->least, sizeof(least16));
    memcpy(most32, &extremes->most, sizeof(most32));
    memcpy(least32, &extremes->least, sizeof(least32));
    for (int i = 0; i < (wide ? 16 : 32); i++) {
        int32_t high = wide ? most32[i] : most16[i];
        int32_t low = wide ? least32[i] : least16[i];
        most = high > most ? high : most;
        least = low < least ? low : least;
    }
    bits = most >= 0 ? most : least;
    if (wide)
        return host_float_of_bits((uint32_t)bits);
    return type == HOST_ROW_BF16 ? host_float_of_bf16((uint16_t)bits)
                                 : host_float_of_f16((uint16_t)bits);
}

ALWAYS_INLINE float chunk_maximum(enum host_row_type type, const char *at,
                                  int64_t count)
{
    int64_t bytes = BLOCK * host_element_size(type);
    char copy[BLOCK_BYTES_MAX];

    if (count < BLOCK)
        block_fill_up(type, at, count, -1, copy);
    const char *from = count < BLOCK ? copy : at;
    struct extremes extremes = {bits_load(from), bits_load(from)};
    for (; count >= BLOCK; at += bytes, count -= BLOCK)
        for (int64_t i = 0; i < bytes; i += BITS_BYTES)
            extremes_take(type, &extremes, at + i);
    if (count > 0) {
        block_fill_up(type, at, count, -1, copy);
        for (int64_t i = 0; i < bytes; i += BITS_BYTES)
            extremes_take(type, &extremes, copy + i);
    }
    return extremes_maximum(type, &extremes);
}

// The exponentials without that of place `hole` (negative or beyond: none).
ALWAYS_INLINE double chunk_sum(enum host_row_type type, const char *at,
                               int64_t count, int64_t hole, float maximum)
{
    int64_t bytes = BLOCK * host_element_size(type);
    struct block top = block_splat(maximum);
    struct vec sum = vec_splat(0);
    char copy[BLOCK_BYTES_MAX];
    float lanes[LANES];
    double tree[LANES];

    for (; count > 0; at += bytes, count -= BLOCK, hole -= BLOCK) {
        const char *from = at;
        prefetch_block(type, at);
        if (count < BLOCK || (uint64_t)hole < (uint64_t)BLOCK) {
            block_fill_up(type, at, count < BLOCK ? count : BLOCK, hole, copy);
            from = copy;
        }
        sum = vec_add(sum, block_sum(type, block_load(type, from), top));
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
        if (!(top <= maximum)) { // NaN stays
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
    struct block top = block_splat(maximum);
    struct block factors = block_splat(factor);
    char copy[BLOCK_BYTES_MAX];

    for (int64_t start = 0; start < vocab; start += BLOCK) {
        const char *from = logits + start * size;
        char *to = gradient + start * size;
        int64_t count = vocab - start;
        if (count < BLOCK) {
            block_fill_up(type, from, count, -1, copy);
            from = copy;
        }
        struct block e = block_exp(type, block_load(type, from), top);
        e = block_mul(e, factors);
        block_store(type, count < BLOCK ? copy : to, e);
        if (count < BLOCK)
            memcpy(to, copy, (size_t)(count * size));
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
