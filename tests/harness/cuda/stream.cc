// SPDX-License-Identifier: BSD-3-Clause
// Streams: what waits for what, and the host that waits for them.
#include <unistd.h>

#include "harness/cuda/double.h"

using namespace cuda_double;

namespace
{

bool ready(const struct work &work)
{
    for (const mark_ref &mark : work.after)
        if (!mark->done)
            return false;
    return work.before == NULL || work.before->begun;
}

void stream_work(CUstream stream)
{
    guard held(all.lock);

    for (;;) {
        all.changed.wait(
            held, [&] { return stream->ends || !stream->queue.empty(); });
        if (stream->queue.empty())
            return;
        struct work &work = stream->queue.front();
        all.changed.wait(held, [&] { return ready(work); });
        work.mark->begun = true;
        all.changed.notify_all();
        if (stream->context->error == CUDA_SUCCESS) {
            memory_open();
            held.unlock();
            CUresult error = work.run();
            held.lock();
            memory_close();
            if (error != CUDA_SUCCESS)
                stream->context->error = error;
        }
        work.mark->done = true;
        work.mark->done_at = std::chrono::steady_clock::now();
        stream->queue.pop_front();
        all.changed.notify_all();
    }
}

CUstream stream_new(CUcontext context, bool legacy, bool blocking)
{
    CUstream stream = new struct CUstream_st();

    stream->context = context;
    stream->legacy = legacy;
    stream->blocking = blocking;
    stream->worker = std::thread(stream_work, stream);
    all.streams.insert(stream);
    return stream;
}

void stream_end(guard *held, CUstream stream)
{
    stream->ends = true;
    all.streams.erase(stream);
    all.changed.notify_all();
    held->unlock();
    stream->worker.join();
    held->lock();
    delete stream;
}

// A blocking stream of the context captures.
bool legacy_would_join(CUcontext context)
{
    bool joins = false;

    for (CUstream stream : all.streams)
        if (stream->context == context && stream->blocking &&
            stream->capture != NULL) {
            stream->capture->valid = false;
            joins = true;
        }
    return joins;
}

CUresult capture_add(CUstream stream, std::function<CUresult()> run)
{
    if (!stream->capture->valid)
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    stream->capture->nodes.push_back(std::move(run));
    if (stream != stream->capture->origin)
        stream->capture->unjoined.insert(stream);
    return CUDA_SUCCESS;
}

} // namespace

CUstream cuda_double::stream_of(CUstream handle)
{
    CUcontext context = context_current();

    if (handle == NULL || handle == CU_STREAM_LEGACY) {
        if (context->legacy == NULL)
            context->legacy = stream_new(context, true, false);
        return context->legacy;
    }
    if (handle == CU_STREAM_PER_THREAD) {
        CUstream &mine = context->per_thread[std::this_thread::get_id()];
        if (mine == NULL)
            mine = stream_new(context, false, true);
        return mine;
    }
    if (all.streams.count(handle) == 0)
        misused("%p is not a stream, or no longer", (void *)handle);
    return handle->context == context ? handle : NULL;
}

CUresult cuda_double::stream_add(CUstream stream, std::function<CUresult()> run,
                                 mark_ref *out, const mark_ref &after)
{
    struct work work;

    if (stream->capture != NULL)
        return capture_add(stream, std::move(run));
    if (stream->legacy && legacy_would_join(stream->context))
        return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    if (stream->legacy) {
        for (CUstream other : all.streams)
            if (other->context == stream->context && other->blocking &&
                other->last != NULL)
                work.after.push_back(other->last);
    } else if (stream->blocking && stream->context->legacy != NULL &&
               stream->context->legacy->last != NULL) {
        work.after.push_back(stream->context->legacy->last);
    }
    if (after != NULL)
        work.after.push_back(after);
    if (all.one_queue)
        work.before = all.newest;
    work.run = std::move(run);
    work.mark = std::make_shared<struct mark>();
    stream->last = all.newest = work.mark;
    if (out != NULL)
        *out = work.mark;
    stream->queue.push_back(std::move(work));
    all.changed.notify_all();
    return CUDA_SUCCESS;
}

CUresult cuda_double::mark_wait(guard *held, CUcontext context,
                                const mark_ref &mark)
{
    if (mark != NULL)
        all.changed.wait(*held, [&] { return mark->done; });
    return context->error;
}

CUresult cuda_double::stream_drain(guard *held, CUstream stream)
{
    const mark_ref last = stream->last;

    return mark_wait(held, stream->context, last);
}

void cuda_double::streams_end(guard *held, CUcontext context)
{
    std::vector<CUstream> streams;

    for (CUstream stream : all.streams)
        if (stream->context == context)
            streams.push_back(stream);
    context->legacy = NULL;
    context->per_thread.clear();
    for (CUstream stream : streams)
        stream_end(held, stream);
}

bool cuda_double::captures_forbid()
{
    bool forbid = false;

    for (const capture_ref &capture : all.captures)
        if (capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL ||
            (capture->mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL &&
             capture->thread == std::this_thread::get_id())) {
            capture->valid = false;
            forbid = true;
        }
    return forbid;
}

CUresult cuStreamCreate(CUstream *stream, unsigned int flags)
{
    CALL(CALL_CONTEXT);
    if ((flags & ~CU_STREAM_NON_BLOCKING) != 0)
        return CUDA_ERROR_INVALID_VALUE;
    *stream = stream_new(context_current(), false,
                         (flags & CU_STREAM_NON_BLOCKING) == 0);
    return CUDA_SUCCESS;
}

// Here the host waits for the stream's work, there it does not.
CUresult cuStreamDestroy_v2(CUstream handle)
{
    CALL(CALL_CONTEXT);
    if (handle == NULL || handle == CU_STREAM_LEGACY ||
        handle == CU_STREAM_PER_THREAD)
        return CUDA_ERROR_INVALID_HANDLE;
    CUstream stream = stream_of(handle);
    if (stream == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    if (stream->capture != NULL)
        misused("a stream is destroyed while it captures");
    stream_end(&held, stream);
    return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream handle)
{
    CALL(CALL_CONTEXT | CALL_UNSAFE | CALL_WAITS);
    CUstream stream = stream_of(handle);

    if (stream == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    return stream_drain(&held, stream);
}

CUresult cuStreamQuery(CUstream handle)
{
    CALL(CALL_CONTEXT | CALL_UNSAFE);
    CUstream stream = stream_of(handle);

    if (stream == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    return stream->last == NULL || stream->last->done ? CUDA_SUCCESS
                                                      : CUDA_ERROR_NOT_READY;
}

CUresult cuStreamWaitValue64_v2(CUstream handle, CUdeviceptr at, uint64_t value,
                                unsigned int flags)
{
    CALL(CALL_CONTEXT);
    CUstream stream = stream_of(handle);
    const uint64_t *word = (uint64_t *)(void *)memory_at(at, sizeof(value));

    if (stream == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    if (word == NULL || at % sizeof(value) != 0 ||
        flags != CU_STREAM_WAIT_VALUE_GEQ)
        return CUDA_ERROR_INVALID_VALUE;
    return stream_add(
        stream,
        [=] {
            // As the driver does: by the sign of the difference.
            while ((int64_t)(__atomic_load_n(word, __ATOMIC_ACQUIRE) - value) <
                   0)
                usleep(50);
            return CUDA_SUCCESS;
        },
        NULL);
}

CUresult cuStreamWriteValue64_v2(CUstream handle, CUdeviceptr at,
                                 uint64_t value, unsigned int flags)
{
    CALL(CALL_CONTEXT);
    CUstream stream = stream_of(handle);
    uint64_t *word = (uint64_t *)(void *)memory_at(at, sizeof(value));

    if (stream == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    if (word == NULL || at % sizeof(value) != 0 || flags != 0)
        return CUDA_ERROR_INVALID_VALUE;
    return stream_add(
        stream,
        [=] {
            __atomic_store_n(word, value, __ATOMIC_RELEASE);
            return CUDA_SUCCESS;
        },
        NULL);
}

CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void *argument)
{
    CALL(CALL_CONTEXT);
    CUstream stream = stream_of(handle);

    if (stream == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    return stream_add(
        stream,
        [=] {
            in_host_function = true;
            function(argument);
            in_host_function = false;
            return CUDA_SUCCESS;
        },
        NULL);
}
