// SPDX-License-Identifier: BSD-3-Clause
// One micro-batch for a device's loss, and what must come out of it, computed
// in long double.
#ifndef HARNESS_LOSS_CASE_H
#define HARNESS_LOSS_CASE_H

#include "device/device.h"

#define LOSS_CASE_IGNORE (-100)
// What is written in places that must not be touched.
#define LOSS_CASE_CANARY 0x5a

// All arrays are the case's own; a test changes what it likes before the run.
struct loss_case {
    struct device_loss job;
    void *labels;
    float *weights; // of 1 each; the job has none until a test says so
    float *nll;
    char *logits;
    char *gradient; // not the logits
    int64_t element_bytes;
    int64_t bytes;           // of the logits, and of the gradient
    char *kept;              // the logits before the run
    float scale, grad_scale; // 1; the job has none until a test says so
    struct numeric_record record;
};

// Random logits from -8 to 8 and labels that count.
struct loss_case *loss_case_create(int64_t vocab, int64_t tokens,
                                   tally_dtype_t type, tally_dtype_t labels,
                                   uint64_t seed);
// The same with another stride (>= vocab) of logits and gradient; what is
// between rows is NaN.
struct loss_case *loss_case_create_strided(int64_t vocab, int64_t tokens,
                                           int64_t stride, tally_dtype_t type,
                                           tally_dtype_t labels, uint64_t seed);
void loss_case_free(struct loss_case *loss);

void loss_case_label(struct loss_case *loss, int64_t token, int64_t label);
void loss_case_logit(struct loss_case *loss, int64_t token, int64_t j, float x);
int64_t loss_case_label_at(const struct loss_case *loss, int64_t token);
// From the kept logits, and from the gradient.
float loss_case_logit_at(const struct loss_case *loss, int64_t token,
                         int64_t j);
float loss_case_gradient_at(const struct loss_case *loss, int64_t token,
                            int64_t j);

// Runs on a device of that many threads; clears the record before.
void loss_case_run(struct loss_case *loss, int32_t threads, const char *isa);

// Compares nll, gradient and record of all tokens, whose logits are finite.
void loss_case_check(const struct loss_case *loss);

// A device, or NULL where this processor has no such kernels.
struct device *loss_case_device(int32_t threads, const char *isa);

#endif
