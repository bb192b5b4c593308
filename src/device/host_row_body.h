// SPDX-License-Identifier: BSD-3-Clause
// The walks over a row, in terms of `struct vec` (16 floats), `struct bits` (64
// bytes) and their functions, which the file that includes this one defines for
// its instruction set. All of them do the same IEEE operations in the same
// order, so they give the same bits:
//   * a block is 64 elements, a part 32 blocks, a chunk 4 parts;
//   * a block's four vectors are added in pairs, then to a part's 16 lanes,
//     these to a chunk's, and those in double as a tree: no sum of float32
//     has many terms;
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
#define PART (32 * BLOCK)
#define CHUNK (4 * PART)
#define BLOCK_BYTES_MAX (4 * LANES * 4)
#define BITS_BYTES 64
#define CACHE_LINE 64

// Added to a number and taken away again it rounds to an integer, and n + 127
// ends in the low bits of the sum, as the exponent of 2^n: 1.5 * 2^23 + 127.
#define ROUNDER 12583039.0f

// Distances from the maximum whose exponentials need no care.
#define NEAR (-87.0f)

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

// The block's place in the next chunk: memory works while the sums wait for
// arithmetic.
ALWAYS_INLINE void prefetch_next(enum host_row_type type, const char *at)
{
    int64_t size = host_element_size(type);
    // A number: it may lie beyond the row, where a pointer may not.
    uintptr_t ahead = (uintptr_t)at + (uintptr_t)(CHUNK * size);

    for (int64_t i = 0; i < BLOCK * size; i += CACHE_LINE)
        __builtin_prefetch((const void *)(ahead + (uintptr_t)i));
}

// exp(x - maximum) for x <= maximum; 0 below about 2^-126. With
// n = round((x - maximum) / ln 2) it is 2^n exp(r), |r| <= ln 2 / 2: Cody and
// Waite's reduction and a polynomial; within 1.2 units in the last place.
ALWAYS_INLINE struct block block_exp_float(struct block d)
{
    const struct block rounder = block_splat(ROUNDER);
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
ALWAYS_INLINE struct block block_exp_half(struct block d)
{
    const struct block rounder = block_splat(12582912); // 1.5 * 2^23
    struct block t = block_mul(d, block_splat(46.1662407f));
    struct block rounded = block_add(t, rounder);
    struct block f = block_sub(t, block_sub(rounded, rounder));
    struct block p = block_mul_add(block_splat(0.000234596198f), f,
                                   block_splat(0.0216611661f));
    p = block_mul_add(p, f, block_splat(1));
    return block_mul(p, block_power(rounded));
}

// `near`: no x is more than NEAR below the maximum.
ALWAYS_INLINE struct block block_exp(enum host_row_type type, bool near,
                                     struct block x, struct block maximum)
{
    struct block d = block_sub(x, maximum);

    if (!near) // -127 ln 2 and a little: there 2^n reads 0
        d = block_max(block_splat(-88.03f), d);
    return type == HOST_ROW_F32 ? block_exp_float(d) : block_exp_half(d);
}

// The lanes' sum of the exponentials.
ALWAYS_INLINE struct vec block_sum(enum host_row_type type, bool near,
                                   const char *at, struct block maximum)
{
    struct block e = block_exp(type, near, block_load(type, at), maximum);

    return vec_add(vec_add(e.a, e.b), vec_add(e.c, e.d));
}

// What is known of numbers without NaN: their maximum, and one that is not
// above their minimum. NaN may win or lose: the row is NaN in any case.
struct range {
    float maximum, bound;
};

// How integers are compared: floating-point numbers are a sign and a magnitude.
enum order { MOST_SIGNED, MOST_UNSIGNED, LEAST_SIGNED };

ALWAYS_INLINE struct bits bits_pick(enum host_row_type type, enum order order,
                                    struct bits x, struct bits y)
{
    if (type == HOST_ROW_F32)
        return order == MOST_SIGNED     ? bits_max32(x, y)
               : order == MOST_UNSIGNED ? bits_max_unsigned32(x, y)
                                        : bits_min32(x, y);
    return order == MOST_SIGNED     ? bits_max16(x, y)
           : order == MOST_UNSIGNED ? bits_max_unsigned16(x, y)
                                    : bits_min16(x, y);
}

// In a wider integer, which compilers make vector code of.
#define PICK_ONE(integer, wider, is_better)                                    \
    do {                                                                       \
        integer all[BITS_BYTES / sizeof(integer)];                             \
        bits_store(all, bits);                                                 \
        wider best = all[0];                                                   \
        for (size_t i = 1; i < sizeof(all) / sizeof(all[0]); i++) {            \
            wider next = all[i];                                               \
            best = next is_better best ? next : best;                          \
        }                                                                      \
        integer one = (integer)best;                                           \
        return host_element_load(type, &one, 0);                               \
    } while (0)

// The one element that all of a vector come down to.
ALWAYS_INLINE float bits_pick_one(enum host_row_type type, enum order order,
                                  struct bits bits)
{
    bool wide = type == HOST_ROW_F32;

    if (order == MOST_UNSIGNED && wide)
        PICK_ONE(uint32_t, uint32_t, >);
    if (order == MOST_UNSIGNED)
        PICK_ONE(uint16_t, int32_t, >);
    if (order == MOST_SIGNED && wide)
        PICK_ONE(int32_t, int32_t, >);
    if (order == MOST_SIGNED)
        PICK_ONE(int16_t, int32_t, >);
    if (wide)
        PICK_ONE(int32_t, int32_t, <);
    PICK_ONE(int16_t, int32_t, <);
}

// Over `count` elements, a block at least; where they are no whole blocks, the
// last ones are looked at twice.
ALWAYS_INLINE struct bits walk(enum host_row_type type, enum order order,
                               const char *at, int64_t count,
                               struct bits *unsigned_most)
{
    int64_t size = host_element_size(type);
    int64_t bytes = BLOCK * size;
    struct bits bits = bits_load(at);
    struct bits far = bits;

    for (int64_t i = 0; i < count; i += BLOCK) {
        const char *block =
            at + (i + BLOCK <= count ? i : count - BLOCK) * size;
        for (int64_t k = 0; k < bytes; k += BITS_BYTES) {
            struct bits next = bits_load(block + k);
            bits = bits_pick(type, order, next, bits);
            if (unsigned_most != NULL)
                far = bits_pick(type, MOST_UNSIGNED, next, far);
        }
    }
    if (unsigned_most != NULL)
        *unsigned_most = far;
    return bits;
}

// If any number is positive, the largest integer is the maximum. If none is,
// the order is reversed: another walk. The largest unsigned one is the minimum,
// or all are positive.
ALWAYS_INLINE struct range chunk_range(enum host_row_type type, const char *at,
                                       int64_t count)
{
    char copy[BLOCK_BYTES_MAX];
    struct bits far;

    if (count < BLOCK) {
        block_fill_up(type, at, count, -1, copy);
        at = copy;
        count = BLOCK;
    }
    struct bits most = walk(type, MOST_SIGNED, at, count, &far);
    float maximum = bits_pick_one(type, MOST_SIGNED, most);
    float minimum = bits_pick_one(type, MOST_UNSIGNED, far);
    if (signbit(maximum))
        maximum = bits_pick_one(type, LEAST_SIGNED,
                                walk(type, LEAST_SIGNED, at, count, NULL));
    return (struct range){maximum, signbit(minimum) ? minimum : 0};
}

// The exponentials without that of place `hole` (negative or beyond: none).
ALWAYS_INLINE double chunk_sum(enum host_row_type type, bool near,
                               const char *at, int64_t count, int64_t hole,
                               float maximum)
{
    int64_t bytes = BLOCK * host_element_size(type);
    struct block top = block_splat(maximum);
    struct vec sum = vec_splat(0);
    struct vec part = vec_splat(0);
    char copy[BLOCK_BYTES_MAX];
    float lanes[LANES];
    double tree[LANES];

    for (int64_t j = 0; j < count; j += BLOCK, at += bytes) {
        int64_t left = count - j;
        prefetch_next(type, at);
        if (j % PART == 0 && j > 0) {
            sum = vec_add(sum, part);
            part = vec_splat(0);
        }
        if (left < BLOCK || (uint64_t)(hole - j) < (uint64_t)BLOCK) {
            block_fill_up(type, at, left < BLOCK ? left : BLOCK, hole - j,
                          copy);
            part = vec_add(part, block_sum(type, false, copy, top));
        } else {
            part = vec_add(part, block_sum(type, near, at, top));
        }
    }
    sum = vec_add(sum, part);
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
    float bound = INFINITY;
    double others = 0;

    for (int64_t start = 0; start < vocab; start += CHUNK) {
        const char *at = (const char *)logits + start * host_element_size(type);
        int64_t count = vocab - start < CHUNK ? vocab - start : CHUNK;
        struct range range = chunk_range(type, at, count);
        if (!(range.maximum <= maximum)) { // NaN stays
            others *= numeric_exp((double)maximum - (double)range.maximum);
            maximum = range.maximum;
        }
        if (!(range.bound >= bound))
            bound = range.bound;
        // As long as all are -inf, any other number stands for the maximum:
        // their exponentials are 0, and not those of -inf - -inf.
        float top = maximum == -INFINITY ? 0 : maximum;
        if (range.bound - top >= NEAR)
            others += chunk_sum(type, true, at, count, label - start, top);
        else
            others += chunk_sum(type, false, at, count, label - start, top);
    }
    out->maximum = maximum;
    out->bound = bound;
    out->others = others;
}

ALWAYS_INLINE void row_gradient(enum host_row_type type, bool near,
                                const char *logits, char *gradient,
                                int64_t vocab, float maximum, float factor)
{
    int64_t size = host_element_size(type);
    struct block top = block_splat(maximum);
    struct block factors = block_splat(factor);
    char copy[BLOCK_BYTES_MAX];
    int64_t j;

    for (j = 0; j + BLOCK <= vocab; j += BLOCK) {
        struct block x = block_load(type, logits + j * size);
        struct block e = block_exp(type, near, x, top);
        block_store(type, gradient + j * size, block_mul(e, factors));
    }
    if (j == vocab)
        return;
    block_fill_up(type, logits + j * size, vocab - j, -1, copy);
    struct block e = block_exp(type, false, block_load(type, copy), top);
    block_store(type, copy, block_mul(e, factors));
    memcpy(gradient + j * size, copy, (size_t)((vocab - j) * size));
}

#define DEFINE_WALKS(name, type)                                               \
    static void sum_##name(const void *logits, int64_t vocab, int64_t label,   \
                           struct host_row_sum *out)                           \
    {                                                                          \
        row_sum(type, logits, vocab, label, out);                              \
    }                                                                          \
    static void gradient_##name(const void *logits, void *gradient,            \
                                int64_t vocab, const struct host_row_sum *sum, \
                                float factor)                                  \
    {                                                                          \
        if (sum->bound - sum->maximum >= NEAR)                                 \
            row_gradient(type, true, logits, gradient, vocab, sum->maximum,    \
                         factor);                                              \
        else                                                                   \
            row_gradient(type, false, logits, gradient, vocab, sum->maximum,   \
                         factor);                                              \
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
