// SPDX-License-Identifier: BSD-3-Clause
// The three types of logits: how 16 bytes of them become floats and back, and
// which numbers, E::real, have digits to spare for their gradients.
#ifndef KERNELS_ELEMENT_H
#define KERNELS_ELEMENT_H

#include "gpu.h"

#define GPU_INFINITY ((float)INFINITY)

GPU_FN float float_of_bits(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof(x));
    return x;
}

GPU_FN uint32_t bits_of_float(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

GPU_FN double double_of_bits(uint64_t bits)
{
    double x;

    memcpy(&x, &bits, sizeof(x));
    return x;
}

GPU_FN uint64_t bits_of_double(double x)
{
    uint64_t bits;

    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

struct element_f32 {
    typedef double real;
    static constexpr int bytes = 4;
    static constexpr int count = 4; // in 16 bytes
    static constexpr uint32_t minus_infinity = 0xff800000;

    static GPU_FN float load(const char *at)
    {
        float x;

        memcpy(&x, at, sizeof(x));
        return x;
    }
    static GPU_FN uint32_t maximum(uint32_t a, uint32_t b)
    {
        return bits_of_float(fmaxf(float_of_bits(a), float_of_bits(b)));
    }
    static GPU_FN float maximum_of_word(uint32_t a)
    {
        return float_of_bits(a);
    }
    static GPU_FN void unpack(const gpu_vector &v, float *x)
    {
        for (int k = 0; k < 4; k++)
            x[k] = float_of_bits(v.word[k]);
    }
    static GPU_FN void pack(const float *x, gpu_vector *v)
    {
        for (int k = 0; k < 4; k++)
            v->word[k] = bits_of_float(x[k]);
    }
};

// What the two types of 16 bits have in common; F has their arithmetic.
template <class F> struct element_half : F {
    typedef float real;
    static constexpr int bytes = 2;
    static constexpr int count = 8;

    static GPU_FN float load(const char *at)
    {
        uint16_t half;

        memcpy(&half, at, sizeof(half));
        return F::low(half);
    }
    static GPU_FN float maximum_of_word(uint32_t a)
    {
        return fmaxf(F::low(a), F::high(a));
    }
    static GPU_FN void unpack(const gpu_vector &v, float *x)
    {
        for (int k = 0; k < 4; k++) {
            x[2 * k] = F::low(v.word[k]);
            x[2 * k + 1] = F::high(v.word[k]);
        }
    }
    static GPU_FN void pack(const float *x, gpu_vector *v)
    {
        for (int k = 0; k < 4; k++)
            v->word[k] = F::pair(x[2 * k], x[2 * k + 1]);
    }
};

struct half_bf16 {
    static constexpr uint32_t minus_infinity = 0xff80ff80;

    static GPU_FN float low(uint32_t a)
    {
        return float_of_bits(a << 16);
    }
    static GPU_FN float high(uint32_t a)
    {
        return float_of_bits(a & 0xffff0000);
    }
    static GPU_FN uint32_t pair(float x, float y)
    {
        return gpu_bf16_pair(x, y);
    }
    static GPU_FN uint32_t maximum(uint32_t a, uint32_t b)
    {
        return gpu_max_bf16(a, b);
    }
};

struct half_f16 {
    static constexpr uint32_t minus_infinity = 0xfc00fc00;

    static GPU_FN float low(uint32_t a)
    {
        return gpu_float_of_f16((uint16_t)(a & 0xffff));
    }
    static GPU_FN float high(uint32_t a)
    {
        return gpu_float_of_f16((uint16_t)(a >> 16));
    }
    static GPU_FN uint32_t pair(float x, float y)
    {
        return gpu_f16_pair(x, y);
    }
    static GPU_FN uint32_t maximum(uint32_t a, uint32_t b)
    {
        return gpu_max_f16(a, b);
    }
};

typedef element_half<half_bf16> element_bf16;
typedef element_half<half_f16> element_f16;

template <class E> GPU_FN gpu_vector vector_minus_infinity()
{
    const uint32_t word = E::minus_infinity;

    return {{word, word, word, word}};
}

// The same with element k replaced by -inf. Neither here nor in a slice may an
// index be known only at run time: registers have none.
template <class E> GPU_FN gpu_vector vector_without(const gpu_vector &v, int k)
{
    const int in_word = 4 / E::bytes;
    const uint32_t mask = E::bytes == 4 ? ~0u : 0xffffu << (k % in_word * 16);
    const uint32_t lowest = E::minus_infinity & mask;
    gpu_vector out;

#pragma unroll
    for (int w = 0; w < 4; w++)
        out.word[w] =
            w == k / in_word ? (v.word[w] & ~mask) | lowest : v.word[w];
    return out;
}

// Bytes [shift, shift + 16) of a and b; 0 < shift < 16.
GPU_FN gpu_vector vector_realign(const gpu_vector &a, const gpu_vector &b,
                                 int shift)
{
    uint32_t all[8] = {a.word[0], a.word[1], a.word[2], a.word[3],
                       b.word[0], b.word[1], b.word[2], b.word[3]};
    gpu_vector out;

#pragma unroll
    for (int k = 0; k < 6; k++)
        if ((shift & 8) != 0)
            all[k] = all[k + 2];
#pragma unroll
    for (int k = 0; k < 5; k++)
        if ((shift & 4) != 0)
            all[k] = all[k + 1];
#pragma unroll
    for (int k = 0; k < 4; k++)
        out.word[k] = gpu_funnel(all[k], all[k + 1], (shift & 3) * 8);
    return out;
}

#endif
