// SPDX-License-Identifier: BSD-3-Clause
// One table of operations between the step machine and a device. A device
// counts labels, computes losses and gradients, and accumulates into records;
// it knows nothing of ranks, epochs or transports. Arguments were checked by
// the caller.
#ifndef DEVICE_DEVICE_H
#define DEVICE_DEVICE_H

#include <stdbool.h>
#include <stdint.h>
#include <tally/tally.h>

#include "kernels/params.h"
#include "numeric/record.h"

struct device;

struct cuda_parts;

struct device_params {
    int32_t threads; // of the host device, >= 1, the caller's included
    const char *isa; // of the host device: "auto", "generic", "avx2",
                     // "avx512"
};

// Labels of one micro-batch: [tokens].
struct device_labels {
    const void *values;
    tally_dtype_t type; // TALLY_I32, TALLY_I64
    int64_t tokens;
    const float *weights; // NULL: 1 each
    int64_t vocab;
    int64_t ignore_index;
};

// Those of a row that are here.
struct device_columns {
    int64_t begin; // the label of the first
    int64_t width;
    int32_t shards; // that have others of the same rows; 0: all are here
    // Device memory, of loss [shards][tokens], in the order of columns, of
    // which it writes the first [tokens]; of part [tokens].
    struct kernel_parts *parts;
};

struct device_loss {
    struct device_labels labels;
    struct device_columns columns;
    const void *logits; // [tokens][logits_stride]
    tally_dtype_t type; // TALLY_F32, TALLY_BF16, TALLY_F16
    int64_t logits_stride;
    void *gradient; // NULL: none
    int64_t gradient_stride;
    float *nll;                           // NULL: none
    const float *grad_scale;              // NULL: 1
    const float *scale;                   // of the channel; NULL: 1
    const struct kernel_shaping *shaping; // NULL: none
    // On a GPU: what the step has for rows between a loss and a gradient in two
    // passes. Steps may be at work at once, each on a stream.
    struct cuda_parts **parts;
};

struct device_multiply {
    void *values;       // one after the other
    tally_dtype_t type; // TALLY_F32, TALLY_BF16, TALLY_F16
    int64_t elements;
    const float *factor; // device memory
};

struct device_ops {
    size_t size;
    const char *name; // "host", "cuda"
    tally_status_t (*open)(const struct device_params *params,
                           struct device **out);
    void (*close)(struct device *device);
    // Adds weight, count and bad_labels of the labels to *record (device
    // memory, folded). Folds only where lanes would not hold so many tokens.
    tally_status_t (*count)(struct device *device,
                            const struct device_labels *labels,
                            struct numeric_record *record,
                            tally_stream_t stream);
    // Adds loss, weight, count, nonfinite and bad_labels to *record, and writes
    // gradient and nll. Folds as count does.
    tally_status_t (*loss)(struct device *device, const struct device_loss *job,
                           struct numeric_record *record,
                           tally_stream_t stream);
    // Writes what the columns have of each row.
    tally_status_t (*part)(struct device *device, const struct device_loss *job,
                           tally_stream_t stream);
    // values[i] *= *factor; nothing where it is 1.
    tally_status_t (*multiply)(struct device *device,
                               const struct device_multiply *job,
                               tally_stream_t stream);
};

// The host device's instruction set in use, for tally_info: "avx512".
const char *device_host_isa(const struct device *device);

extern const struct device_ops device_host_ops;
extern const struct device_ops device_cuda_ops;

#endif
