// SPDX-License-Identifier: BSD-3-Clause
// The walks over a row for any processor: a vector is four of the compiler's
// 128-bit ones.
#include <string.h>

#include "device/host_element.h"
#include "device/host_row.h"

typedef float quad __attribute__((vector_size(16)));
typedef int32_t quad_bits __attribute__((vector_size(16)));
typedef uint32_t quad_words __attribute__((vector_size(16)));
typedef uint16_t quad_halves __attribute__((vector_size(16)));
typedef int16_t quad_shorts __attribute__((vector_size(16)));

struct vec {
    quad a, b, c, d;
};

const uint32_t host_row_powers[HOST_POWERS] = {
    0x3f800000, 0x3f7ecd87, 0x3f7daac3, 0x3f7c980f, 0x3f7b95c2, 0x3f7aa43a,
    0x3f79c3d3, 0x3f78f4f0, 0x3f7837f0, 0x3f778d3a, 0x3f76f532, 0x3f767043,
    0x3f75fed7, 0x3f75a15b, 0x3f75583f, 0x3f7523f6, 0x3f7504f3, 0x3f74fbaf,
    0x3f7508a4, 0x3f752c4d, 0x3f75672a, 0x3f75b9be, 0x3f76248c, 0x3f76a81e,
    0x3f7744fd, 0x3f77fbb8, 0x3f78ccdf, 0x3f79b907, 0x3f7ac0c7, 0x3f7be4ba,
    0x3f7d257d, 0x3f7e83b3,
};

static inline struct vec vec_splat(float x)
{
    quad all = {x, x, x, x};

    return (struct vec){all, all, all, all};
}

static inline struct vec vec_add(struct vec x, struct vec y)
{
    return (struct vec){x.a + y.a, x.b + y.b, x.c + y.c, x.d + y.d};
}

static inline struct vec vec_sub(struct vec x, struct vec y)
{
    return (struct vec){x.a - y.a, x.b - y.b, x.c - y.c, x.d - y.d};
}

static inline struct vec vec_mul(struct vec x, struct vec y)
{
    return (struct vec){x.a * y.a, x.b * y.b, x.c * y.c, x.d * y.d};
}

static inline quad choose(quad_bits mask, quad x, quad y)
{
    return (quad)((mask & (quad_bits)x) | (~mask & (quad_bits)y));
}

// x > y ? x : y, so y where one is NaN.
static inline struct vec vec_max(struct vec x, struct vec y)
{
    return (struct vec){
        choose(x.a > y.a, x.a, y.a), choose(x.b > y.b, x.b, y.b),
        choose(x.c > y.c, x.c, y.c), choose(x.d > y.d, x.d, y.d)};
}

static inline quad shift_to_exponent(quad x)
{
    return (quad)((quad_words)x << 23);
}

static inline struct vec vec_shift_to_exponent(struct vec x)
{
    return (struct vec){shift_to_exponent(x.a), shift_to_exponent(x.b),
                        shift_to_exponent(x.c), shift_to_exponent(x.d)};
}

static inline quad power(quad x)
{
    quad_words i = (quad_words)x;
    quad_words entry = {host_row_powers[i[0] % HOST_POWERS],
                        host_row_powers[i[1] % HOST_POWERS],
                        host_row_powers[i[2] % HOST_POWERS],
                        host_row_powers[i[3] % HOST_POWERS]};

    return (quad)(entry + (i << HOST_POWER_SHIFT));
}

// 2^(i / 32), i being the low bits of x.
static inline struct vec vec_power(struct vec x)
{
    return (struct vec){power(x.a), power(x.b), power(x.c), power(x.d)};
}

static inline quad canonical(quad x)
{
    const quad_words nan = {HOST_NAN_BITS, HOST_NAN_BITS, HOST_NAN_BITS,
                            HOST_NAN_BITS};

    return choose(x == x, x, (quad)nan); // NOLINT: false where x is NaN
}

static inline struct vec vec_canonical(struct vec x)
{
    return (struct vec){canonical(x.a), canonical(x.b), canonical(x.c),
                        canonical(x.d)};
}

static inline struct vec vec_load_f32(const void *at)
{
    struct vec x;

    memcpy(&x, at, sizeof(x));
    return x;
}

static inline struct vec vec_load_f16(const void *at)
{
    float wide[16];

    for (int i = 0; i < 16; i++)
        wide[i] = host_element_load(HOST_ROW_F16, at, i);
    return vec_load_f32(wide);
}

static inline void vec_store_f32(void *at, struct vec x)
{
    memcpy(at, &x, sizeof(x));
}

static inline void vec_store_f16(void *at, struct vec x)
{
    float wide[16];

    vec_store_f32(wide, x);
    for (int i = 0; i < 16; i++)
        host_element_store(HOST_ROW_F16, at, i, wide[i]);
}

struct bits {
    quad_bits a, b, c, d;
};

static inline struct bits bits_load(const void *at)
{
    struct bits x;

    memcpy(&x, at, sizeof(x));
    return x;
}

static inline void bits_store(void *at, struct bits x)
{
    memcpy(at, &x, sizeof(x));
}

static inline quad lower_half(quad_bits x)
{
    return (quad)((quad_words)x << 16);
}

static inline quad upper_half(quad_bits x)
{
    return (quad)((quad_words)x & 0xffff0000);
}

// The lower and the upper bf16 of each 32 bits.
static inline struct vec bf16_lower(struct bits x)
{
    return (struct vec){lower_half(x.a), lower_half(x.b), lower_half(x.c),
                        lower_half(x.d)};
}

static inline struct vec bf16_upper(struct bits x)
{
    return (struct vec){upper_half(x.a), upper_half(x.b), upper_half(x.c),
                        upper_half(x.d)};
}

// Rounded to nearest even in the upper half; x has no NaN but ours.
static inline quad_words bf16_rounded(quad x)
{
    quad_words bits = (quad_words)x;

    return bits + 0x7fff + (bits >> 16 & 1);
}

static inline quad_bits bf16_pair(quad lower, quad upper)
{
    return (quad_bits)((bf16_rounded(lower) >> 16) |
                       (bf16_rounded(upper) & 0xffff0000));
}

static inline struct bits bf16_round(struct vec lower, struct vec upper)
{
    return (struct bits){
        bf16_pair(lower.a, upper.a), bf16_pair(lower.b, upper.b),
        bf16_pair(lower.c, upper.c), bf16_pair(lower.d, upper.d)};
}

static inline quad_bits above16(quad_bits x, quad_bits y)
{
    return (quad_bits)((quad_shorts)x > (quad_shorts)y);
}

static inline quad_bits above32(quad_bits x, quad_bits y)
{
    return (quad_bits)((quad_bits)x > (quad_bits)y);
}

static inline quad_bits pick(quad_bits mask, quad_bits x, quad_bits y)
{
    return (mask & x) | (~mask & y);
}

static inline struct bits bits_max16(struct bits x, struct bits y)
{
    return (struct bits){
        pick(above16(x.a, y.a), x.a, y.a), pick(above16(x.b, y.b), x.b, y.b),
        pick(above16(x.c, y.c), x.c, y.c), pick(above16(x.d, y.d), x.d, y.d)};
}

static inline struct bits bits_max32(struct bits x, struct bits y)
{
    return (struct bits){
        pick(above32(x.a, y.a), x.a, y.a), pick(above32(x.b, y.b), x.b, y.b),
        pick(above32(x.c, y.c), x.c, y.c), pick(above32(x.d, y.d), x.d, y.d)};
}

static inline struct bits bits_min16(struct bits x, struct bits y)
{
    return (struct bits){
        pick(above16(x.a, y.a), y.a, x.a), pick(above16(x.b, y.b), y.b, x.b),
        pick(above16(x.c, y.c), y.c, x.c), pick(above16(x.d, y.d), y.d, x.d)};
}

static inline struct bits bits_min32(struct bits x, struct bits y)
{
    return (struct bits){
        pick(above32(x.a, y.a), y.a, x.a), pick(above32(x.b, y.b), y.b, x.b),
        pick(above32(x.c, y.c), y.c, x.c), pick(above32(x.d, y.d), y.d, x.d)};
}

static inline quad_bits above_unsigned16(quad_bits x, quad_bits y)
{
    return (quad_bits)((quad_halves)x > (quad_halves)y);
}

static inline struct bits bits_max_unsigned16(struct bits x, struct bits y)
{
    return (struct bits){pick(above_unsigned16(x.a, y.a), x.a, y.a),
                         pick(above_unsigned16(x.b, y.b), x.b, y.b),
                         pick(above_unsigned16(x.c, y.c), x.c, y.c),
                         pick(above_unsigned16(x.d, y.d), x.d, y.d)};
}

static inline quad_bits above_unsigned32(quad_bits x, quad_bits y)
{
    return (quad_bits)((quad_words)x > (quad_words)y);
}

static inline struct bits bits_max_unsigned32(struct bits x, struct bits y)
{
    return (struct bits){pick(above_unsigned32(x.a, y.a), x.a, y.a),
                         pick(above_unsigned32(x.b, y.b), x.b, y.b),
                         pick(above_unsigned32(x.c, y.c), x.c, y.c),
                         pick(above_unsigned32(x.d, y.d), x.d, y.d)};
}

#include "device/host_row_body.h"

const struct host_row_kernels host_row_generic = {.isa = "generic",
                                                  HOST_ROW_WALKS};
