// SPDX-License-Identifier: BSD-3-Clause
// What the host device makes of a row of logits, or of some columns of it: nll,
// gradient, and what it adds to a record.
#ifndef DEVICE_HOST_LOSS_H
#define DEVICE_HOST_LOSS_H

#include "device/device.h"
#include "device/host_row.h"

struct host_loss_job {
    const struct device_loss *job;
    const struct host_row_kernels *kernels;
    enum host_row_type type;
};

// Of token `index`, which counts: adds its loss, writes nll and gradient. The
// parts of its columns at all shards become those of the row.
void host_loss_take(const struct host_loss_job *loss, int64_t index,
                    int64_t label, float weight, struct numeric_record *record);
// Of one that does not.
void host_loss_skip(const struct host_loss_job *loss, int64_t index);

// The part of these columns, of a token that counts and of one that does not.
void host_loss_part(const struct host_loss_job *loss, int64_t index,
                    int64_t label);
void host_loss_no_part(const struct host_loss_job *loss, int64_t index);

#endif
