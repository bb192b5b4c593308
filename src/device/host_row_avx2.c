// SPDX-License-Identifier: BSD-3-Clause
// The walks over a row for AVX2 with F16C: a vector is two registers.
#include <immintrin.h>

#include "device/host_row.h"

struct vec {
    __m256 low, high;
};

static inline struct vec vec_splat(float x)
{
    return (struct vec){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}

static inline struct vec vec_add(struct vec a, struct vec b)
{
    return (struct vec){_mm256_add_ps(a.low, b.low),
                        _mm256_add_ps(a.high, b.high)};
}

static inline struct vec vec_sub(struct vec a, struct vec b)
{
    return (struct vec){_mm256_sub_ps(a.low, b.low),
                        _mm256_sub_ps(a.high, b.high)};
}

static inline struct vec vec_mul(struct vec a, struct vec b)
{
    return (struct vec){_mm256_mul_ps(a.low, b.low),
                        _mm256_mul_ps(a.high, b.high)};
}

// a > b ? a : b, so b where one is NaN.
static inline struct vec vec_max(struct vec a, struct vec b)
{
    return (struct vec){_mm256_max_ps(a.low, b.low),
                        _mm256_max_ps(a.high, b.high)};
}

static inline __m256 shift_to_exponent(__m256 x)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x), 23));
}

static inline struct vec vec_shift_to_exponent(struct vec x)
{
    return (struct vec){shift_to_exponent(x.low), shift_to_exponent(x.high)};
}

static inline __m256 power_entry(int first, __m256i i)
{
    const __m256i *entries = (const __m256i *)(host_row_powers + first);

    return _mm256_castsi256_ps(
        _mm256_permutevar8x32_epi32(_mm256_loadu_si256(entries), i));
}

// The table is four registers: bits 0 to 2 of i choose in each, 3 and 4 among
// them.
static inline __m256 power(__m256 x)
{
    __m256i i = _mm256_castps_si256(x);
    __m256 bit3 = _mm256_castsi256_ps(_mm256_slli_epi32(i, 28));
    __m256 bit4 = _mm256_castsi256_ps(_mm256_slli_epi32(i, 27));
    __m256 low = _mm256_blendv_ps(power_entry(0, i), power_entry(8, i), bit3);
    __m256 high =
        _mm256_blendv_ps(power_entry(16, i), power_entry(24, i), bit3);
    __m256i entry = _mm256_castps_si256(_mm256_blendv_ps(low, high, bit4));
    __m256i bits =
        _mm256_add_epi32(entry, _mm256_slli_epi32(i, HOST_POWER_SHIFT));

    return _mm256_castsi256_ps(bits);
}

// 2^(i / 32), i being the low bits of x.
static inline struct vec vec_power(struct vec x)
{
    return (struct vec){power(x.low), power(x.high)};
}

static inline __m256 canonical(__m256 x)
{
    __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000));

    return _mm256_blendv_ps(x, nan, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

static inline struct vec vec_canonical(struct vec x)
{
    return (struct vec){canonical(x.low), canonical(x.high)};
}

static inline struct vec vec_load_f32(const void *at)
{
    const float *values = at;

    return (struct vec){_mm256_loadu_ps(values), _mm256_loadu_ps(values + 8)};
}

static inline struct vec vec_load_f16(const void *at)
{
    const __m128i *halves = at;

    return (struct vec){_mm256_cvtph_ps(_mm_loadu_si128(halves)),
                        _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))};
}

static inline void vec_store_f32(void *at, struct vec x)
{
    float *values = at;

    _mm256_storeu_ps(values, x.low);
    _mm256_storeu_ps(values + 8, x.high);
}

static inline void vec_store_f16(void *at, struct vec x)
{
    __m128i *halves = at;

    _mm_storeu_si128(halves, _mm256_cvtps_ph(x.low, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(halves + 1,
                     _mm256_cvtps_ph(x.high, _MM_FROUND_TO_NEAREST_INT));
}

struct bits {
    __m256i low, high;
};

static inline struct bits bits_load(const void *at)
{
    const __m256i *halves = at;

    return (struct bits){_mm256_loadu_si256(halves),
                         _mm256_loadu_si256(halves + 1)};
}

static inline void bits_store(void *at, struct bits x)
{
    __m256i *halves = at;

    _mm256_storeu_si256(halves, x.low);
    _mm256_storeu_si256(halves + 1, x.high);
}

// The lower and the upper bf16 of each 32 bits.
static inline struct vec bf16_lower(struct bits x)
{
    return (struct vec){_mm256_castsi256_ps(_mm256_slli_epi32(x.low, 16)),
                        _mm256_castsi256_ps(_mm256_slli_epi32(x.high, 16))};
}

static inline struct vec bf16_upper(struct bits x)
{
    __m256i mask = _mm256_set1_epi32((int)0xffff0000);

    return (struct vec){_mm256_castsi256_ps(_mm256_and_si256(x.low, mask)),
                        _mm256_castsi256_ps(_mm256_and_si256(x.high, mask))};
}

// Rounded to nearest even in the upper half; x has no NaN but ours.
static inline __m256i bf16_rounded(__m256 x)
{
    __m256i bits = _mm256_castps_si256(x);
    __m256i odd =
        _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));

    return _mm256_add_epi32(bits,
                            _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
}

static inline __m256i bf16_pair(__m256 lower, __m256 upper)
{
    __m256i mask = _mm256_set1_epi32((int)0xffff0000);
    __m256i low = _mm256_srli_epi32(bf16_rounded(lower), 16);

    return _mm256_or_si256(low, _mm256_and_si256(bf16_rounded(upper), mask));
}

static inline struct bits bf16_round(struct vec lower, struct vec upper)
{
    return (struct bits){bf16_pair(lower.low, upper.low),
                         bf16_pair(lower.high, upper.high)};
}

static inline struct bits bits_max16(struct bits a, struct bits b)
{
    return (struct bits){_mm256_max_epi16(a.low, b.low),
                         _mm256_max_epi16(a.high, b.high)};
}

static inline struct bits bits_max32(struct bits a, struct bits b)
{
    return (struct bits){_mm256_max_epi32(a.low, b.low),
                         _mm256_max_epi32(a.high, b.high)};
}

static inline struct bits bits_min16(struct bits a, struct bits b)
{
    return (struct bits){_mm256_min_epi16(a.low, b.low),
                         _mm256_min_epi16(a.high, b.high)};
}

static inline struct bits bits_min32(struct bits a, struct bits b)
{
    return (struct bits){_mm256_min_epi32(a.low, b.low),
                         _mm256_min_epi32(a.high, b.high)};
}

static inline struct bits bits_max_unsigned16(struct bits a, struct bits b)
{
    return (struct bits){_mm256_max_epu16(a.low, b.low),
                         _mm256_max_epu16(a.high, b.high)};
}

static inline struct bits bits_max_unsigned32(struct bits a, struct bits b)
{
    return (struct bits){_mm256_max_epu32(a.low, b.low),
                         _mm256_max_epu32(a.high, b.high)};
}

#include "device/host_row_body.h"

const struct host_row_kernels host_row_avx2 = {.isa = "avx2", HOST_ROW_WALKS};
