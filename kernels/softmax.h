// SPDX-License-Identifier: BSD-3-Clause
// From a row's parts to its loss and the slope of it. One place for all
// kernels, so that they agree to the bit.
#ifndef KERNELS_SOFTMAX_H
#define KERNELS_SOFTMAX_H

#include "element.h"
#include "kernels/params.h"

#define LOG2_E 1.44269504f

// The two variants of every kernel: what is done to logits before, and to the
// loss.
struct plain_variant {
    static constexpr bool shaped = false;

    GPU_FN plain_variant(const struct kernel_shaping &)
    {
    }
    GPU_FN float value(float x) const
    {
        return x;
    }
    GPU_FN float slope(float) const
    {
        return 1;
    }
};

// Straight on, without branches: it is done to each of the many elements that a
// thread has in registers.
struct shaped_variant {
    static constexpr bool shaped = true;
    struct kernel_shaping by;
    float cap_inverse;

    GPU_FN shaped_variant(const struct kernel_shaping &shaping)
        : by(shaping), cap_inverse(shaping.cap > 0 ? 1 / shaping.cap : 0)
    {
    }

    // tanh: its series where it is below 1/2, else 1 - 2 / (exp(2u) + 1).
    static GPU_FN float hyperbolic_tangent(float u)
    {
        const float size = fabsf(u);
        const float square = u * u;
        float near = -0.00886323553f; // -1382 / 155925
        near = near * square + 0.0218694885f;
        near = near * square - 0.0539682540f;
        near = near * square + 0.133333333f;
        near = near * square - 0.333333333f;
        near = near * square * size + size;
        const float e = gpu_exp2(size * (2 * LOG2_E));
        const float far = 1 - 2 * gpu_reciprocal(e + 1);
        return copysignf(size < 0.4f ? near : far, u);
    }

    GPU_FN float value(float x) const
    {
        const float capped = by.cap * hyperbolic_tangent(x * cap_inverse);

        return (by.cap > 0 ? capped : x) * by.temperature_inverse;
    }

    // The derivative of value(): that of tanh is 4 / (exp(u) + exp(-u))^2.
    GPU_FN float slope(float x) const
    {
        const float e = gpu_exp2(fabsf(x * cap_inverse) * (-2 * LOG2_E));
        const float r = gpu_reciprocal(1 + e);

        return by.temperature_inverse * (by.cap > 0 ? 4 * e * r * r : 1);
    }
};

// A row's softmax: exp(y_j - origin) / total, and what the others have of it.
struct softmax {
    float origin, others, total;
    float own; // the label's, of total
    float lse; // log of the sum of exp(y_j)
    float nll;
};

// With the label on top only the others' sum is taken, however small. NaN
// anywhere makes all NaN but origin, as does +inf; so does a row of -inf.
GPU_FN struct softmax softmax_of(const struct kernel_parts &parts)
{
    const float maximum = fmaxf(parts.maximum, parts.target);
    struct softmax row;

    row.origin = maximum;
    row.own = expf(parts.target - maximum);
    row.others = parts.sum * expf(parts.maximum - maximum);
    row.total = row.others + row.own;
    if (parts.target >= parts.maximum) // own is 1, or NaN
        row.nll = log1pf(row.others * row.own);
    else
        row.nll = parts.maximum - parts.target + logf(row.total);
    row.lse = parts.target + row.nll;
    if (parts.target == -GPU_INFINITY)
        row.lse = maximum + logf(row.total);
    return row;
}

template <class V>
GPU_FN float softmax_loss(const V &variant, const struct kernel_parts &parts,
                          const struct softmax &row, int64_t vocab)
{
    if constexpr (V::shaped) {
        const struct kernel_shaping &by = variant.by;
        float loss = row.nll;
        if (by.smoothing > 0) {
            float mean = (parts.logit_sum + parts.target) / (float)vocab;
            loss = (1 - by.smoothing) * loss + by.smoothing * (row.lse - mean);
        }
        return loss + by.z_loss * row.lse * row.lse;
    } else {
        return row.nll;
    }
}

// d loss / d logit_j = (exp(y_j - origin) * others - evenly) * slope(x_j), but
// target * slope(x_j) for the label: 1 - p would lose its digits near 1.
struct slopes {
    float origin, others, evenly, target;
};

template <class V>
GPU_FN struct slopes softmax_slopes(const V &variant, const struct softmax &row,
                                    float factor, int64_t vocab)
{
    struct slopes slopes = {row.origin, factor / row.total, 0,
                            (0 - row.others / row.total) * factor};

    if constexpr (V::shaped) {
        const struct kernel_shaping &by = variant.by;
        const float z = 2 * by.z_loss * row.lse;
        const float evenly = by.smoothing / (float)vocab;
        slopes.others *= 1 + z;
        slopes.evenly = evenly * factor;
        slopes.target = (row.own / row.total * z - row.others / row.total +
                         (by.smoothing - evenly)) *
                        factor;
    }
    return slopes;
}

#endif
