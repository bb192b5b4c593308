// SPDX-License-Identifier: BSD-3-Clause
// See host_shape.h. The exponentials are the row kernels'; all else is plain C
// without contraction, in loops of whole vectors, which compilers make vector
// code of.
#include "device/host_shape.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "device/host_element.h"
#include "numeric/exp.h"
#include "numeric/tanh.h"

#define LANES 16
#define PIECE 1024 // elements: arrays that the nearest cache holds

struct piece {
    float x[PIECE];     // logits, 0 up to whole vectors
    float value[PIECE]; // y
    float slope[PIECE]; // dy / dx
    float work[PIECE];
};

// Elements with what makes them whole vectors: PIECE is of these.
static int whole(int count)
{
    return (count + LANES - 1) / LANES * LANES;
}

static void load(enum host_row_type type, const char *at, int count, float *x)
{
    if (type == HOST_ROW_F32)
        memcpy(x, at, (size_t)count * sizeof(*x));
    else if (type == HOST_ROW_BF16)
        for (int j = 0; j < count; j++)
            x[j] = host_element_load(HOST_ROW_BF16, at, j);
    else
        for (int j = 0; j < count; j++)
            x[j] = host_element_load(HOST_ROW_F16, at, j);
    for (int j = count; j < whole(count); j++)
        x[j] = 0;
}

static void store(enum host_row_type type, const float *x, int count, char *at)
{
    if (type == HOST_ROW_F32)
        for (int j = 0; j < count; j++)
            host_element_store(HOST_ROW_F32, at, j, x[j]);
    else if (type == HOST_ROW_BF16)
        for (int j = 0; j < count; j++)
            host_element_store(HOST_ROW_BF16, at, j, x[j]);
    else
        for (int j = 0; j < count; j++)
            host_element_store(HOST_ROW_F16, at, j, x[j]);
}

#define MINUS_INFINITY_BITS 0xff800000u

// a or b, without a branch, which would keep a loop from being vector code.
static inline float choose(bool which, float a, float b)
{
    const uint32_t mask = 0 - (uint32_t)which;

    return host_float_of_bits((host_bits_of_float(a) & mask) |
                              (host_bits_of_float(b) & ~mask));
}

// tanh(u), far from 0 (1 - e) / (1 + e) where e is exp(-2 |u|), near it its
// series.
static inline float hyperbolic_tangent(float u, float far)
{
    const float size = fabsf(u);
    const bool is_near =
        host_bits_of_float(size) < host_bits_of_float(NUMERIC_TANH_NEAR);

    return copysignf(choose(is_near, numeric_tanh_near(size), far), u);
}

static void cap(const struct host_shape *shape, int count, struct piece *piece)
{
    const struct host_row_sum from_zero = {0, -INFINITY, 0};
    const float most = shape->by->cap;
    const float inverse = shape->by->temperature_inverse;

    for (int i = 0; i < count; i += LANES)
        for (int j = i; j < i + LANES; j++) {
            piece->value[j] = piece->x[j] / most;
            piece->work[j] = -2 * fabsf(piece->value[j]);
        }
    shape->kernels->gradient[HOST_ROW_F32](piece->work, piece->work,
                                           whole(count), &from_zero, 1);
    for (int i = 0; i < count; i += LANES)
        for (int j = i; j < i + LANES; j++) {
            const float e = piece->work[j];
            const float r = 1 / (1 + e);
            const float tangent =
                hyperbolic_tangent(piece->value[j], (1 - e) * r);
            const bool is_masked =
                host_bits_of_float(piece->x[j]) == MINUS_INFINITY_BITS;
            piece->value[j] =
                choose(is_masked, -INFINITY, most * tangent * inverse);
            piece->slope[j] = 4 * e * r * r * inverse;
        }
}

static void take(const struct host_shape *shape, int64_t start, int count,
                 struct piece *piece)
{
    const float inverse = shape->by->temperature_inverse;

    load(shape->type, shape->logits + start * host_element_size(shape->type),
         count, piece->x);
    if (shape->by->cap > 0) {
        cap(shape, count, piece);
        return;
    }
    for (int i = 0; i < count; i += LANES)
        for (int j = i; j < i + LANES; j++) {
            piece->value[j] = piece->x[j] * inverse;
            piece->slope[j] = inverse;
        }
}

static int count_at(const struct host_shape *shape, int64_t start)
{
    int64_t left = shape->vocab - start;

    return left < PIECE ? (int)left : PIECE;
}

// NaN in either stays; all -inf have a sum of 0, from whatever maximum.
static void merge(struct host_row_sum *into, const struct host_row_sum *part)
{
    double others = part->others;

    if (!(part->maximum <= into->maximum)) {
        into->others *=
            numeric_exp((double)into->maximum - (double)part->maximum);
        into->maximum = part->maximum;
    } else if (part->maximum > -INFINITY) {
        others *= numeric_exp((double)part->maximum - (double)into->maximum);
    }
    into->others += others;
    if (!(part->bound >= into->bound))
        into->bound = part->bound;
}

static double add_up(const float *x, int count)
{
    double lanes[LANES] = {0};

    for (int j = 0; j < count; j++)
        lanes[j % LANES] += (double)x[j];
    for (int i = 1; i < LANES; i++)
        lanes[0] += lanes[i];
    return lanes[0];
}

void host_shape_sum(const struct host_shape *shape, struct host_shape_sum *out)
{
    struct piece piece;
    struct host_row_sum part;

    *out = (struct host_shape_sum){.values = {-INFINITY, INFINITY, 0}};
    for (int64_t start = 0; start < shape->vocab; start += PIECE) {
        int count = count_at(shape, start);
        int64_t label = shape->label - start;
        take(shape, start, count, &piece);
        shape->kernels->sum[HOST_ROW_F32](piece.value, count, label, &part);
        merge(&out->values, &part);
        if (label >= 0 && label < count)
            out->target = piece.value[label];
        if (shape->by->smoothing > 0)
            out->total += add_up(piece.value, count);
    }
}

void host_shape_gradient(const struct host_shape *shape,
                         const struct host_shape_sum *sum,
                         const struct host_shape_slopes *slopes, char *gradient)
{
    const int64_t size = host_element_size(shape->type);
    struct piece piece;

    for (int64_t start = 0; start < shape->vocab; start += PIECE) {
        int count = count_at(shape, start);
        int64_t label = shape->label - start;
        take(shape, start, count, &piece);
        shape->kernels->gradient[HOST_ROW_F32](piece.value, piece.work,
                                               whole(count), &sum->values,
                                               slopes->others);
        for (int i = 0; i < count; i += LANES)
            for (int j = i; j < i + LANES; j++)
                piece.work[j] =
                    (piece.work[j] - slopes->evenly) * piece.slope[j];
        if (label >= 0 && label < count)
            piece.work[label] =
                (float)(slopes->target * (double)piece.slope[label]);
        store(shape->type, piece.work, count, gradient + start * size);
    }
}
