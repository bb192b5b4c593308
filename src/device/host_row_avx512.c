// SPDX-License-Identifier: BSD-3-Clause
// The walks over a row for AVX-512 (F, BW, VL, DQ).
#include <immintrin.h>

#include "device/host_row.h"

struct vec {
    __m512 all;
};

static inline struct vec vec_splat(float x)
{
    return (struct vec){_mm512_set1_ps(x)};
}

static inline struct vec vec_add(struct vec a, struct vec b)
{
    return (struct vec){_mm512_add_ps(a.all, b.all)};
}

static inline struct vec vec_sub(struct vec a, struct vec b)
{
    return (struct vec){_mm512_sub_ps(a.all, b.all)};
}

static inline struct vec vec_mul(struct vec a, struct vec b)
{
    return (struct vec){_mm512_mul_ps(a.all, b.all)};
}

// a > b ? a : b, so b where one is NaN.
static inline struct vec vec_max(struct vec a, struct vec b)
{
    return (struct vec){_mm512_max_ps(a.all, b.all)};
}

static inline struct vec vec_shift_to_exponent(struct vec x)
{
    __m512i bits = _mm512_castps_si512(x.all);

    return (struct vec){_mm512_castsi512_ps(_mm512_slli_epi32(bits, 23))};
}

// 2^(i / 32), i being the low bits of x.
static inline struct vec vec_power(struct vec x)
{
    __m512i i = _mm512_castps_si512(x.all);
    __m512i entry =
        _mm512_permutex2var_epi32(_mm512_loadu_si512(host_row_powers), i,
                                  _mm512_loadu_si512(host_row_powers + 16));
    __m512i bits =
        _mm512_add_epi32(entry, _mm512_slli_epi32(i, HOST_POWER_SHIFT));

    return (struct vec){_mm512_castsi512_ps(bits)};
}

static inline struct vec vec_canonical(struct vec x)
{
    __mmask16 is_nan = _mm512_cmp_ps_mask(x.all, x.all, _CMP_UNORD_Q);
    __m512i bits = _mm512_castps_si512(x.all);

    return (struct vec){_mm512_castsi512_ps(
        _mm512_mask_mov_epi32(bits, is_nan, _mm512_set1_epi32(0x7fc00000)))};
}

static inline struct vec vec_load_f32(const void *at)
{
    return (struct vec){_mm512_loadu_ps(at)};
}

static inline struct vec vec_load_f16(const void *at)
{
    return (struct vec){_mm512_cvtph_ps(_mm256_loadu_si256(at))};
}

static inline void vec_store_f32(void *at, struct vec x)
{
    _mm512_storeu_ps(at, x.all);
}

static inline void vec_store_f16(void *at, struct vec x)
{
    // With a mask of all, for without one gcc 12's macro of -O0 warns.
    _mm256_storeu_si256(at, _mm512_maskz_cvtps_ph((__mmask16)0xffff, x.all,
                                                  _MM_FROUND_TO_NEAREST_INT |
                                                      _MM_FROUND_NO_EXC));
}

struct bits {
    __m512i all;
};

static inline struct bits bits_load(const void *at)
{
    return (struct bits){_mm512_loadu_si512(at)};
}

static inline void bits_store(void *at, struct bits x)
{
    _mm512_storeu_si512(at, x.all);
}

// The lower and the upper bf16 of each 32 bits.
static inline struct vec bf16_lower(struct bits x)
{
    return (struct vec){_mm512_castsi512_ps(_mm512_slli_epi32(x.all, 16))};
}

static inline struct vec bf16_upper(struct bits x)
{
    __m512i mask = _mm512_set1_epi32((int)0xffff0000);

    return (struct vec){_mm512_castsi512_ps(_mm512_and_si512(x.all, mask))};
}

// Rounded to nearest even in the upper half; x has no NaN but ours.
static inline __m512i bf16_rounded(__m512 x)
{
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd =
        _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));

    return _mm512_add_epi32(bits,
                            _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
}

static inline struct bits bf16_round(struct vec lower, struct vec upper)
{
    __m512i mask = _mm512_set1_epi32((int)0xffff0000);
    __m512i low = _mm512_srli_epi32(bf16_rounded(lower.all), 16);
    __m512i high = _mm512_and_si512(bf16_rounded(upper.all), mask);

    return (struct bits){_mm512_or_si512(low, high)};
}

static inline struct bits bits_max16(struct bits a, struct bits b)
{
    return (struct bits){_mm512_max_epi16(a.all, b.all)};
}

static inline struct bits bits_min16(struct bits a, struct bits b)
{
    return (struct bits){_mm512_min_epi16(a.all, b.all)};
}

static inline struct bits bits_max32(struct bits a, struct bits b)
{
    return (struct bits){_mm512_max_epi32(a.all, b.all)};
}

static inline struct bits bits_min32(struct bits a, struct bits b)
{
    return (struct bits){_mm512_min_epi32(a.all, b.all)};
}

static inline struct bits bits_max_unsigned16(struct bits a, struct bits b)
{
    return (struct bits){_mm512_max_epu16(a.all, b.all)};
}

static inline struct bits bits_max_unsigned32(struct bits a, struct bits b)
{
    return (struct bits){_mm512_max_epu32(a.all, b.all)};
}

#include "device/host_row_body.h"

const struct host_row_kernels host_row_avx512 = {.isa = "avx512",
                                                 HOST_ROW_WALKS};
