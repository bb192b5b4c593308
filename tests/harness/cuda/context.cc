// SPDX-License-Identifier: BSD-3-Clause
// The driver, its devices, and their primary contexts.
#include "harness/cuda/double.h"

using namespace cuda_double;

// Small, so that persistent kernels go round.

namespace
{

const struct {
    CUresult error;
    const char *name;
    const char *text;
} errors[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED",
     "initialization error"},
    {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE",
     "no CUDA-capable device is detected"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE",
     "invalid device ordinal"},
    {CUDA_ERROR_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE",
     "device kernel image is invalid"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT",
     "invalid device context"},
    {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE",
     "invalid resource handle"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CUDA_ERROR_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED",
     "unspecified launch failure"},
    {CUDA_ERROR_NOT_PERMITTED, "CUDA_ERROR_NOT_PERMITTED",
     "operation not permitted"},
    {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
     "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
     "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {CUDA_ERROR_STREAM_CAPTURE_MERGE, "CUDA_ERROR_STREAM_CAPTURE_MERGE",
     "operation would result in a merge of separate capture sequences"},
    {CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED",
     "capture was not ended in the same stream as it began"},
    {CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED",
     "capturing stream has unjoined work"},
    {CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT",
     "operation would make the legacy stream depend on a capturing blocking "
     "stream"},
    {CUDA_ERROR_CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT",
     "operation not permitted on an event last recorded in a capturing stream"},
    {CUDA_ERROR_INVALID_CLUSTER_SIZE, "CUDA_ERROR_INVALID_CLUSTER_SIZE",
     "cluster misconfiguration"},
};

CUresult error_find(CUresult error, const char **name, const char **text)
{
    for (const auto &row : errors)
        if (row.error == error) {
            *name = row.name;
            *text = row.text;
            return CUDA_SUCCESS;
        }
    *name = *text = NULL;
    return CUDA_ERROR_INVALID_VALUE;
}

} // namespace

CUcontext cuda_double::context_current()
{
    if (contexts.empty() || contexts.back() == NULL)
        return NULL;
    for (CUcontext context : all.primary)
        if (context == contexts.back())
            return context->references > 0 ? context : NULL;
    misused("a context that never was is current");
}

CUresult cuInit(unsigned int flags)
{
    CALL(CALL_ANYTIME);
    if (flags != 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (all.devices == 0)
        return CUDA_ERROR_NO_DEVICE;
    while ((int)all.primary.size() < all.devices) {
        CUcontext context = new struct CUctx_st();
        context->device = (int)all.primary.size();
        all.primary.push_back(context);
    }
    all.initialised = true;
    return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int *version)
{
    CALL(CALL_ANYTIME);
    *version = all.version;
    return CUDA_SUCCESS;
}

// These two are asked about errors, also where no call is allowed.
CUresult cuGetErrorName(CUresult error, const char **text)
{
    const char *other;

    return error_find(error, text, &other);
}

CUresult cuGetErrorString(CUresult error, const char **text)
{
    const char *other;

    return error_find(error, &other, text);
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
    CALL(CALL_INITIALISED);
    if (ordinal < 0 || ordinal >= all.devices)
        return CUDA_ERROR_INVALID_DEVICE;
    *device = ordinal;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count)
{
    CALL(CALL_INITIALISED);
    *count = all.devices;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device)
{
    CALL(CALL_INITIALISED);
    if (device < 0 || device >= all.devices)
        return CUDA_ERROR_INVALID_DEVICE;
    switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
        *value = MULTIPROCESSORS;
        return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
        *value = all.capability;
        return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS:
        *value = 1;
        return CUDA_SUCCESS;
    default:
        misused("device attribute %d is unknown to the double", attribute);
    }
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
    CALL(CALL_INITIALISED);
    if (device < 0 || device >= all.devices)
        return CUDA_ERROR_INVALID_DEVICE;
    *context = all.primary[(size_t)device];
    (*context)->references++;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
    CALL(CALL_INITIALISED | CALL_WAITS);
    if (device < 0 || device >= all.devices)
        return CUDA_ERROR_INVALID_DEVICE;
    CUcontext context = all.primary[(size_t)device];
    if (context->references == 0)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (context->references > 1) {
        context->references--;
        return CUDA_SUCCESS;
    }
    streams_end(&held, context);
    memory_end(context);
    modules_end(context);
    context->references = 0;
    context->error = CUDA_SUCCESS;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *context)
{
    CALL(CALL_INITIALISED);
    *context = contexts.empty() ? NULL : contexts.back();
    return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device)
{
    CALL(CALL_CONTEXT);
    *device = context_current()->device;
    return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent_v2(CUcontext context)
{
    CALL(CALL_INITIALISED);
    if (context == NULL)
        return CUDA_ERROR_INVALID_CONTEXT;
    contexts.push_back(context);
    if (context_current() == NULL) {
        contexts.pop_back();
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent_v2(CUcontext *context)
{
    CALL(CALL_INITIALISED);
    if (contexts.empty())
        return CUDA_ERROR_INVALID_CONTEXT;
    if (context != NULL)
        *context = contexts.back();
    contexts.pop_back();
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context)
{
    CALL(CALL_INITIALISED);
    if (!contexts.empty())
        contexts.pop_back();
    if (context != NULL)
        contexts.push_back(context);
    return context != NULL && context_current() == NULL
               ? CUDA_ERROR_INVALID_CONTEXT
               : CUDA_SUCCESS;
}

CUresult cuCtxSynchronize()
{
    CALL(CALL_CONTEXT | CALL_UNSAFE | CALL_WAITS);
    CUcontext context = context_current();
    std::vector<mark_ref> marks;

    for (CUstream stream : all.streams)
        if (stream->context == context && stream->last != NULL)
            marks.push_back(stream->last);
    for (const mark_ref &mark : marks)
        mark_wait(&held, context, mark);
    return context->error;
}
