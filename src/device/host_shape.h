// SPDX-License-Identifier: BSD-3-Clause
// Walks over a row under a shaping (kernels/params.h): its logits become values
// y, a piece of the row at a time, in float32. What the loss makes of the sums
// is in host.c. The same bits on all kernels, as all else.
#ifndef DEVICE_HOST_SHAPE_H
#define DEVICE_HOST_SHAPE_H

#include "device/host_row.h"
#include "kernels/params.h"

struct host_shape {
    const struct host_row_kernels *kernels;
    const struct kernel_shaping *by;
    enum host_row_type type;
    const char *logits;
    int64_t vocab;
    int64_t label;
};

struct host_shape_sum {
    struct host_row_sum values; // of y
    float target;               // the label's y
    double total;               // of all y; 0 without smoothing
};

// d loss / d logit_j = (exp(y_j - maximum) * others - evenly) * slope(x_j), but
// target * slope(x_j) for the label.
struct host_shape_slopes {
    float others, evenly;
    double target;
};

void host_shape_sum(const struct host_shape *shape, struct host_shape_sum *out);

// It may be the logits.
void host_shape_gradient(const struct host_shape *shape,
                         const struct host_shape_sum *sum,
                         const struct host_shape_slopes *slopes,
                         char *gradient);

#endif
