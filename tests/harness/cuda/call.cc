// SPDX-License-Identifier: BSD-3-Clause
// What every call has in common: it is counted, it may be made to fail, and it
// is refused where the driver refuses all calls.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/cuda/double.h"

using namespace cuda_double;

struct cuda_double::state &cuda_double::all = *new struct state;
thread_local std::vector<CUcontext> cuda_double::contexts;
thread_local bool cuda_double::in_host_function;

namespace
{

struct call {
    long count = 0;
    long fails_at = 0;
    CUresult error = 0;
};

std::map<std::string, struct call> &calls =
    *new std::map<std::string, struct call>;
long waits;

CUresult counted(const char *name)
{
    struct call &call = calls[name];

    call.count++;
    return call.count == call.fails_at ? call.error : CUDA_SUCCESS;
}

void call_fail(const char *name, long nth, CUresult error)
{
    struct call &call = calls[name];

    call.fails_at = call.count + nth;
    call.error = error;
}

int number_of(const char *name, int otherwise)
{
    const char *text = getenv(name);

    return text != NULL ? atoi(text) : otherwise;
}

void environment_read()
{
    const char *fail = getenv("CUDA_DOUBLE_FAIL");
    char name[64];
    long nth;
    int error;

    all.environment = true;
    all.devices = number_of("CUDA_DOUBLE_DEVICES", 1);
    all.capability = number_of("CUDA_DOUBLE_CAPABILITY", 9);
    all.version = number_of("CUDA_DOUBLE_VERSION", 13000);
    all.blocking = number_of("CUDA_LAUNCH_BLOCKING", 0) == 1;
    all.one_queue = number_of("CUDA_DEVICE_MAX_CONNECTIONS", 8) == 1;
    if (fail == NULL)
        return;
    if (sscanf(fail, "%63[^:]:%ld:%d", name, &nth, &error) != 3)
        misused("CUDA_DOUBLE_FAIL=%s is not name:n:code", fail);
    call_fail(name, nth, error);
}

} // namespace

[[noreturn]] void cuda_double::misused(const char *format, ...)
{
    va_list list;

    va_start(list, format);
    fprintf(stderr, "libcuda double: ");
    vfprintf(stderr, format, list);
    fprintf(stderr, "\n");
    va_end(list);
    abort();
}

CUresult cuda_double::call_begin(const char *name, int traits)
{
    if (!all.environment)
        environment_read();
    CUresult error = counted(name);
    if (traits & CALL_WAITS)
        waits++;
    if (error != CUDA_SUCCESS)
        return error;
    if (in_host_function)
        return CUDA_ERROR_NOT_PERMITTED;
    if ((traits & CALL_INITIALISED) && !all.initialised)
        return CUDA_ERROR_NOT_INITIALIZED;
    if ((traits & CALL_CONTEXT) == CALL_CONTEXT) {
        CUcontext context = context_current();
        if (context == NULL)
            return CUDA_ERROR_INVALID_CONTEXT;
        if (context->error != CUDA_SUCCESS)
            return context->error;
    }
    if ((traits & CALL_UNSAFE) && captures_forbid())
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    return CUDA_SUCCESS;
}

CUresult cuda_double::kernel_fault(const char *name)
{
    counted(name);
    return counted("kernel");
}

long cuda_double_calls(const char *name)
{
    guard held(all.lock);

    return calls[name].count;
}

long cuda_double_waits()
{
    guard held(all.lock);

    return waits;
}

void cuda_double_fail(const char *name, long nth, int error)
{
    guard held(all.lock);

    call_fail(name, nth, error);
}
