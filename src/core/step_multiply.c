// SPDX-License-Identifier: BSD-3-Clause
// A gradient times what follows the loss: no part of an epoch. Reads only.
#include "core/api.h"
#include "core/error.h"
#include "core/objects.h"

static tally_status_t check(tally_dtype_t type, const void *gradient,
                            int64_t elements, const float *factor)
{
    if (type != TALLY_F32 && type != TALLY_BF16 && type != TALLY_F16)
        return core_fail(TALLY_ERR_INVALID,
                         "a gradient is TALLY_F32, TALLY_BF16 or TALLY_F16, "
                         "not type %d",
                         (int)type);
    if (elements < 0)
        return core_fail(TALLY_ERR_INVALID, "elements is %lld",
                         (long long)elements);
    if (gradient == NULL && elements > 0)
        return core_fail(TALLY_ERR_INVALID,
                         "gradient is NULL with %lld elements",
                         (long long)elements);
    if (factor == NULL)
        return core_fail(TALLY_ERR_INVALID, "factor is NULL");
    return TALLY_OK;
}

tally_status_t tally_step_multiply(tally_step_t *step, tally_dtype_t type,
                                   void *gradient, int64_t elements,
                                   const float *factor, tally_stream_t stream)
{
    static const char function[] = "tally_step_multiply";
    const struct device_multiply job = {gradient, type, elements, factor};

    if (step == NULL)
        return api_fail(NULL, function,
                        core_fail(TALLY_ERR_INVALID, "step is NULL"));
    tally_status_t status = check(type, gradient, elements, factor);
    if (status == TALLY_OK)
        status = step->device_ops->multiply(step->device_memory, &job, stream);
    return status == TALLY_OK
               ? TALLY_OK
               : api_fail(&step->group->tally->log, function, status);
}
