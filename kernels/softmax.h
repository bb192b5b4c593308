// SPDX-License-Identifier: BSD-3-Clause
// From a row's parts to its loss and the slope of it. One place for all
// kernels, so that they agree to the bit.
#ifndef KERNELS_SOFTMAX_H
#define KERNELS_SOFTMAX_H

#include "element.h"
#include "kernels/params.h"
#include "numeric/tanh.h"

#define LOG2_E 1.44269504f
#define LOG2_E_DOUBLE 1.4426950408889634

// 1.5 * 2^52: a number of up to 31 bits added to it is rounded, and is the
// lower half of its bits.
#define ROUNDING 6755399441055744.0

// exp(x) within 2^-40 of itself, for x from -700 to 700: a polynomial of 2^r,
// where r, of |r| <= 1/2, is the remainder of x / ln 2.
GPU_FN double exp_double(double x)
{
    static constexpr double coefficients[] = {
        0.999999999999762438,    0.693147180546513692,
        0.240226506988795436,    0.0555041093934348273,
        0.00961812854297454046,  0.00133334520607107795,
        0.000154038516932258528, 1.53097377936163545e-05,
        1.31758674898501045e-06,
    };
    const double y = fma(x, LOG2_E_DOUBLE, ROUNDING);
    const double r = fma(x, LOG2_E_DOUBLE, ROUNDING - y);
    double power = coefficients[8];

#pragma unroll
    for (int i = 7; i >= 0; i--)
        power = fma(power, r, coefficients[i]);
    // Of NaN the lower half is 0.
    return double_of_bits(bits_of_double(power) + (bits_of_double(y) << 52));
}

// exp(x - origin), where origin is close to the largest of the x there are.
GPU_FN float exp_from(float x, float origin)
{
    return gpu_exp2((x - origin) * LOG2_E);
}

// Nothing in double is below exp(-690), so that exponents do not wrap.
template <class X> GPU_FN double exp_from(X x, double origin)
{
    const X lowest = (X)origin - 690;

    return exp_double((double)(x < lowest ? lowest : x) - origin);
}

GPU_FN float reciprocal(float x)
{
    return gpu_reciprocal(x);
}
GPU_FN double reciprocal(double x)
{
    return 1 / x;
}

// The two variants of every kernel: what is done to logits before, and to the
// loss. R: what is computed in.
template <class R> struct plain_variant {
    typedef R real;
    static constexpr bool shaped = false;

    GPU_FN plain_variant(const struct kernel_shaping &)
    {
    }
    GPU_FN float value(float x) const
    {
        return x;
    }
    GPU_FN R slope(float) const
    {
        return 1;
    }
};

// Straight on, without branches: it is done to each of the many elements that a
// thread has in registers.
template <class R> struct shaped_variant {
    typedef R real;
    static constexpr bool shaped = true;
    struct kernel_shaping by;
    R cap_inverse;

    GPU_FN shaped_variant(const struct kernel_shaping &shaping)
        : by(shaping), cap_inverse(shaping.cap > 0 ? 1 / (R)shaping.cap : 0)
    {
    }

    static GPU_FN float exp_of_negative(float x)
    {
        return gpu_exp2(x * LOG2_E);
    }
    static GPU_FN double exp_of_negative(double x)
    {
        return exp_from(x, 0.0);
    }

    // tanh: near 0 its series, else 1 - 2 / (exp(2u) + 1).
    static GPU_FN float hyperbolic_tangent(float u)
    {
        const float size = fabsf(u);
        const float near = numeric_tanh_near(size);
        const float e = gpu_exp2(size * (2 * LOG2_E));
        const float far = 1 - 2 * gpu_reciprocal(e + 1);
        return copysignf(size < NUMERIC_TANH_NEAR ? near : far, u);
    }
    static GPU_FN double hyperbolic_tangent(double u)
    {
        const double e = exp_of_negative(-2 * fabs(u));

        return copysign((1 - e) / (1 + e), u);
    }

    // -inf is masked, left out or beyond the row: no cap makes it a logit.
    GPU_FN R value(float x) const
    {
        const R capped = by.cap * hyperbolic_tangent(x * cap_inverse);
        const bool is_capped = by.cap > 0 && x > -GPU_INFINITY;

        return (is_capped ? capped : (R)x) * by.temperature_inverse;
    }

    // The derivative of value(): that of tanh is 4 / (exp(u) + exp(-u))^2.
    GPU_FN R slope(float x) const
    {
        const R u = x * cap_inverse;
        const R e = exp_of_negative(u < 0 ? 2 * u : -2 * u);
        const R r = reciprocal(1 + e);

        return by.temperature_inverse * (by.cap > 0 ? 4 * e * r * r : (R)1);
    }
};

// A row's softmax: exp(y_j - origin) / total, and what the others have of it.
template <class R> struct softmax {
    float origin;
    R others, total;
    R own;     // the label's, of total
    float lse; // log of the sum of exp(y_j)
    float nll;
};

GPU_FN float exp_exact(float x)
{
    return expf(x);
}
GPU_FN double exp_exact(double x)
{
    return exp_from(x, 0.0);
}

// With the label on top only the others' sum is taken, however small. NaN
// anywhere makes all NaN but origin, as does +inf; so does a row of -inf.
template <class R>
GPU_FN softmax<R> softmax_of(const struct kernel_parts &parts)
{
    const R target = (R)parts.target;
    const R maximum = parts.target > parts.maximum ? target : parts.maximum;
    struct softmax<R> row;

    row.origin = (float)maximum;
    row.own = exp_exact(target - row.origin);
    row.others = (R)parts.sum * exp_exact(parts.maximum - (R)row.origin);
    row.total = row.others + row.own;
    if (target >= parts.maximum) // own is 1 or so, or NaN
        row.nll = log1pf((float)(row.others / row.own));
    else
        row.nll = (float)(parts.maximum - target) + logf((float)row.total);
    row.lse = (float)target + row.nll;
    if (target == -GPU_INFINITY)
        row.lse = row.origin + logf((float)row.total);
    return row;
}

template <class V>
GPU_FN float softmax_loss(const V &variant, const struct kernel_parts &parts,
                          const struct softmax<typename V::real> &row,
                          int64_t vocab)
{
    if constexpr (V::shaped) {
        const struct kernel_shaping &by = variant.by;
        float loss = row.nll;
        if (by.smoothing > 0) {
            float mean = (parts.logit_sum + (float)parts.target) / (float)vocab;
            loss = (1 - by.smoothing) * loss + by.smoothing * (row.lse - mean);
        }
        return loss + by.z_loss * row.lse * row.lse;
    } else {
        return row.nll;
    }
}

// d loss / d logit_j = (exp(y_j - origin) * others - evenly) * slope(x_j), but
// target * slope(x_j) for the label: 1 - p would lose its digits near 1.
template <class R> struct slopes {
    R origin, others, evenly, target;
};

template <class V, class R = typename V::real>
GPU_FN slopes<R> softmax_slopes(const V &variant, const struct softmax<R> &row,
                                float factor, int64_t vocab)
{
    struct slopes<R> slopes = {
        row.origin, factor / row.total, 0, (0 - row.others / row.total) * factor
    };

    if constexpr (V::shaped) {
        const struct kernel_shaping &by = variant.by;
        const R z = 2 * (R)by.z_loss * row.lse;
        const R evenly = by.smoothing / (R)vocab;
        slopes.others *= 1 + z;
        slopes.evenly = evenly * factor;
        slopes.target = (row.own / row.total * z - row.others / row.total +
                         (by.smoothing - evenly)) *
                        factor;
    }
    return slopes;
}

#endif
