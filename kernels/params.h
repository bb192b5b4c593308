// SPDX-License-Identifier: BSD-3-Clause
// What a kernel is given: one struct, by value, the same for the kernels, for
// who launches them, and for the emulator. All pointers are device memory.
#ifndef KERNELS_PARAMS_H
#define KERNELS_PARAMS_H

#include <stdint.h>

#include "numeric/record.h"

enum kernel_element { KERNEL_F32, KERNEL_BF16, KERNEL_F16, KERNEL_ELEMENTS };

// Labels of `tokens` rows: naturally aligned.
struct kernel_labels {
    const void *values;
    const float *weights; // NULL: 1 each
    int64_t tokens;
    int64_t vocab; // labels count in [0, vocab)
    int64_t ignore_index;
    int32_t wide; // labels are int64, not int32
    int32_t reserved;
};

// What softmax needs of a row, or of a rank's columns of it. A rank without the
// label has target = -inf.
struct kernel_parts {
    float maximum;   // of all but the label
    float logit_sum; // of all but the label; only where there is a shaping
    double sum;      // of exp(x_j - maximum), j != label
    double target;   // the label's logit
};

// What is done to logits and loss; a variant of its own of every kernel:
//     y = temperature_inverse * cap * tanh(x / cap)        cap = 0: no cap
//                                                          x = -inf: y = -inf
//     loss = (1 - smoothing) * nll + smoothing * (lse - mean y)
//          + z_loss * lse^2
struct kernel_shaping {
    float temperature_inverse; // > 0
    float cap;                 // >= 0
    float smoothing;           // in [0, 1)
    float z_loss;              // >= 0
};

// loss, loss_grad, backward. Logits and gradient are [tokens][stride] of
// elements, at any address; the gradient may be the logits.
struct kernel_job {
    struct kernel_labels labels;
    const void *logits;
    int64_t stride;
    int64_t begin; // the label of column 0: 0 but for vocabulary-parallel
    int64_t width; // columns: labels.vocab but for vocabulary-parallel
    struct kernel_shaping shaping;
    float *nll;                    // NULL: none
    struct numeric_record *record; // NULL: none
    struct kernel_parts *parts;    // loss writes, backward reads; NULL: none
    void *gradient;
    int64_t gradient_stride;
    const float *scale;      // NULL: 1
    const float *grad_scale; // NULL: 1
};

// finish: parts of all ranks of a row become parts of the row, nll and record.
struct kernel_finish {
    struct kernel_labels labels;
    const struct kernel_parts *shards; // [ranks][tokens]
    int64_t ranks;
    struct kernel_shaping shaping;
    struct kernel_parts *parts; // NULL: none
    float *nll;                 // NULL: none
    struct numeric_record *record;
};

// multiply: values[i] *= *factor, one after the other at any address.
struct kernel_multiply {
    void *values;
    int64_t elements;
    const float *factor;
};

struct kernel_count {
    struct kernel_labels labels;
    struct numeric_record *record;
};

#endif
