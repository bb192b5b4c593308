// SPDX-License-Identifier: BSD-3-Clause
// The host device: which tokens count, and work shared out over threads. What
// becomes of a row is host_loss.h.
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "device/device.h"
#include "device/host_element.h"
#include "device/host_loss.h"
#include "device/host_pool.h"
#include "device/host_row.h"

// Elements handed to a thread at a time: some ten microseconds of work.
#define GRAIN_ELEMENTS ((int64_t)1 << 16)
#define GRAIN_LABELS ((int64_t)1 << 14)

struct device {
    const struct host_row_kernels *kernels;
    struct host_pool *pool;
};

static tally_status_t host_open(const struct device_params *params,
                                struct device **out)
{
    const struct host_row_kernels *kernels = host_isa_find(params->isa);
    struct device *device;

    if (kernels == NULL)
        return core_fail(TALLY_ERR_CONFIG,
                         "TALLY_HOST_ISA=%s: this processor or build has no "
                         "such kernels",
                         params->isa);
    device = calloc(1, sizeof(*device));
    if (device == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for the host device");
    device->kernels = kernels;
    tally_status_t status = host_pool_open(params->threads, &device->pool);
    if (status != TALLY_OK) {
        free(device);
        return status;
    }
    *out = device;
    return TALLY_OK;
}

static void host_close(struct device *device)
{
    host_pool_close(device->pool);
    free(device);
}

const char *device_host_isa(const struct device *device)
{
    return device->kernels->isa;
}

struct token {
    int64_t label;
    float weight;
};

static int64_t label_load(const struct device_labels *labels, int64_t index)
{
    const char *values = labels->values;
    int32_t narrow;
    int64_t wide;

    if (labels->type == TALLY_I64) {
        memcpy(&wide, values + index * (int64_t)sizeof(wide), sizeof(wide));
        return wide;
    }
    memcpy(&narrow, values + index * (int64_t)sizeof(narrow), sizeof(narrow));
    return narrow;
}

// Whether token `index` counts; if so, what it is. Adds all but its loss.
static bool token_take(const struct device_labels *labels, int64_t index,
                       struct token *token, struct numeric_record *record)
{
    int64_t label = label_load(labels, index);
    float weight = 1;
    int64_t q = 0;

    if (label == labels->ignore_index)
        return false;
    if (labels->weights != NULL)
        weight = labels->weights[index];
    if (label < 0 || label >= labels->vocab ||
        !numeric_encode((double)weight, &q)) {
        record->bad_labels++;
        return false;
    }
    record->count++;
    numeric_lanes_add(&record->weight_hi, &record->weight_lo, q);
    *token = (struct token){label, weight};
    return true;
}

static void count_tokens(const void *context, int64_t begin, int64_t end,
                         struct numeric_record *record)
{
    const struct device_labels *labels = context;
    struct token token;

    for (int64_t i = begin; i < end; i++)
        token_take(labels, i, &token, record);
}

static tally_status_t host_count(struct device *device,
                                 const struct device_labels *labels,
                                 struct numeric_record *record,
                                 tally_stream_t stream)
{
    struct host_job job = {.work = count_tokens,
                           .context = labels,
                           .rows = labels->tokens,
                           .grain = GRAIN_LABELS};

    (void)stream;
    host_pool_run(device->pool, &job, record);
    return TALLY_OK;
}

static void loss_rows(const void *context, int64_t begin, int64_t end,
                      struct numeric_record *record)
{
    const struct host_loss_job *loss = context;
    struct token token;

    for (int64_t i = begin; i < end; i++)
        if (token_take(&loss->job->labels, i, &token, record))
            host_loss_take(loss, i, token.label, token.weight, record);
        else
            host_loss_skip(loss, i);
}

static void part_rows(const void *context, int64_t begin, int64_t end,
                      struct numeric_record *record)
{
    const struct host_loss_job *loss = context;
    struct token token;

    for (int64_t i = begin; i < end; i++)
        if (token_take(&loss->job->labels, i, &token, record))
            host_loss_part(loss, i, token.label);
        else
            host_loss_no_part(loss, i);
}

// Shares rows out.
static void run_rows(struct device *device, const struct device_loss *job,
                     void (*work)(const void *context, int64_t begin,
                                  int64_t end, struct numeric_record *record),
                     struct numeric_record *record)
{
    int64_t grain = GRAIN_ELEMENTS / job->columns.width;
    struct host_loss_job loss = {.job = job,
                                 .kernels = device->kernels,
                                 .type = host_row_type(job->type)};
    struct host_job rows = {.work = work,
                            .context = &loss,
                            .rows = job->labels.tokens,
                            .grain = grain > 0 ? grain : 1};

    host_pool_run(device->pool, &rows, record);
}

static tally_status_t host_loss(struct device *device,
                                const struct device_loss *job,
                                struct numeric_record *record,
                                tally_stream_t stream)
{
    (void)stream;
    run_rows(device, job, loss_rows, record);
    return TALLY_OK;
}

static tally_status_t host_part(struct device *device,
                                const struct device_loss *job,
                                tally_stream_t stream)
{
    struct numeric_record unused = {0};

    (void)stream;
    run_rows(device, job, part_rows, &unused);
    return TALLY_OK;
}

static tally_status_t host_multiply(struct device *device,
                                    const struct device_multiply *job,
                                    tally_stream_t stream)
{
    const float factor = *job->factor;
    enum host_row_type type = host_row_type(job->type);

    (void)device;
    (void)stream;
    if (factor == 1)
        return TALLY_OK;
    for (int64_t i = 0; i < job->elements; i++)
        host_element_store(type, job->values, i,
                           factor * host_element_load(type, job->values, i));
    return TALLY_OK;
}

const struct device_ops device_host_ops = {
    .size = sizeof(struct device_ops),
    .name = "host",
    .open = host_open,
    .close = host_close,
    .count = host_count,
    .loss = host_loss,
    .part = host_part,
    .multiply = host_multiply,
};
