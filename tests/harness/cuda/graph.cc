// SPDX-License-Identifier: BSD-3-Clause
// Events, stream capture and graphs.
#include "harness/cuda/double.h"

using namespace cuda_double;

static CUevent event_of(CUevent event)
{
    if (all.events.count(event) == 0)
        misused("%p is not an event, or no longer", (void *)event);
    return event;
}

CUresult cuEventCreate(CUevent *event, unsigned int flags)
{
    CALL(CALL_CONTEXT);
    if (flags > 7)
        return CUDA_ERROR_INVALID_VALUE;
    *event = new struct CUevent_st();
    (*event)->context = context_current();
    all.events.insert(*event);
    return CUDA_SUCCESS;
}

CUresult cuEventDestroy_v2(CUevent event)
{
    CALL(CALL_CONTEXT);
    all.events.erase(event_of(event));
    delete event;
    return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream handle)
{
    CALL(CALL_CONTEXT);
    CUstream stream = stream_of(handle);

    event_of(event);
    if (stream == NULL || event->context != stream->context)
        return CUDA_ERROR_INVALID_HANDLE;
    event->capture = stream->capture;
    event->captured = stream;
    if (stream->capture != NULL)
        return stream->capture->valid ? CUDA_SUCCESS
                                      : CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    return stream_add(
        stream, [] { return CUDA_SUCCESS; }, &event->mark);
}

CUresult cuEventQuery(CUevent event)
{
    CALL(CALL_CONTEXT | CALL_UNSAFE);
    if (event_of(event)->capture != NULL)
        return CUDA_ERROR_CAPTURED_EVENT;
    return event->mark == NULL || event->mark->done ? CUDA_SUCCESS
                                                    : CUDA_ERROR_NOT_READY;
}

CUresult cuEventSynchronize(CUevent event)
{
    CALL(CALL_CONTEXT | CALL_UNSAFE | CALL_WAITS);
    if (event_of(event)->capture != NULL)
        return CUDA_ERROR_CAPTURED_EVENT;
    const mark_ref mark = event->mark;
    return mark_wait(&held, event->context, mark);
}

CUresult cuEventElapsedTime(float *ms, CUevent from, CUevent to)
{
    CALL(CALL_CONTEXT);
    const mark_ref begin = event_of(from)->mark, end = event_of(to)->mark;

    if (begin == NULL || end == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    if (!begin->done || !end->done)
        return CUDA_ERROR_NOT_READY;
    *ms =
        std::chrono::duration<float, std::milli>(end->done_at - begin->done_at)
            .count();
    return CUDA_SUCCESS;
}

static CUresult capture_join(CUstream stream, CUevent event)
{
    if (stream->capture != NULL && stream->capture != event->capture) {
        stream->capture->valid = event->capture->valid = false;
        return CUDA_ERROR_STREAM_CAPTURE_MERGE;
    }
    stream->capture = event->capture;
    if (!stream->capture->valid)
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    stream->capture->unjoined.erase(event->captured);
    if (stream != stream->capture->origin)
        stream->capture->unjoined.insert(stream);
    return CUDA_SUCCESS;
}

CUresult cuStreamWaitEvent(CUstream handle, CUevent event, unsigned int flags)
{
    CALL(CALL_CONTEXT);
    CUstream stream = stream_of(handle);

    event_of(event);
    if (stream == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    if (flags != 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (event->capture != NULL)
        return capture_join(stream, event);
    if (stream->capture != NULL) { // of work outside the graph
        stream->capture->valid = false;
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    if (event->mark == NULL)
        return CUDA_SUCCESS;
    return stream_add(
        stream, [] { return CUDA_SUCCESS; }, NULL, event->mark);
}

CUresult cuStreamIsCapturing(CUstream handle, int *status)
{
    CALL(CALL_CONTEXT);
    CUstream stream = stream_of(handle);

    if (stream == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    if (stream->legacy)
        for (CUstream other : all.streams)
            if (other->context == stream->context && other->blocking &&
                other->capture != NULL)
                return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    *status = stream->capture == NULL  ? CU_STREAM_CAPTURE_STATUS_NONE
              : stream->capture->valid ? CU_STREAM_CAPTURE_STATUS_ACTIVE
                                       : CU_STREAM_CAPTURE_STATUS_INVALIDATED;
    return CUDA_SUCCESS;
}

CUresult cuStreamBeginCapture_v2(CUstream handle, int mode)
{
    CALL(CALL_CONTEXT);
    CUstream stream = stream_of(handle);

    if (stream == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    if (mode < CU_STREAM_CAPTURE_MODE_GLOBAL ||
        mode > CU_STREAM_CAPTURE_MODE_RELAXED)
        return CUDA_ERROR_INVALID_VALUE;
    if (stream->legacy || stream->capture != NULL)
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    stream->capture = std::make_shared<struct capture>();
    stream->capture->mode = mode;
    stream->capture->thread = std::this_thread::get_id();
    stream->capture->origin = stream;
    all.captures.insert(stream->capture);
    return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph *graph)
{
    CALL(CALL_CONTEXT);
    CUstream stream = stream_of(handle);

    *graph = NULL;
    if (stream == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    const capture_ref capture = stream->capture;
    if (capture == NULL || capture->origin != stream)
        return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
    for (CUstream other : all.streams)
        if (other->capture == capture)
            other->capture = NULL;
    all.captures.erase(capture);
    if (!capture->valid)
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (!capture->unjoined.empty())
        return CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
    *graph = new CUgraph_st{capture->nodes};
    all.graphs.insert(*graph);
    return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph,
                                     unsigned long long flags)
{
    CALL(CALL_CONTEXT);
    if (all.graphs.count(graph) == 0)
        misused("%p is not a graph, or no longer", (void *)graph);
    if (flags != 0)
        return CUDA_ERROR_INVALID_VALUE;
    *exec = new CUgraphExec_st{std::make_shared<struct CUgraph_st>(*graph)};
    all.executables.insert(*exec);
    return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream handle)
{
    CALL(CALL_CONTEXT);
    CUstream stream = stream_of(handle);
    mark_ref mark;

    if (all.executables.count(exec) == 0)
        misused("%p is not an executable graph, or no longer", (void *)exec);
    if (stream == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    const auto graph = exec->graph;
    CUresult error = stream_add(
        stream,
        [=] {
            for (const auto &node : graph->nodes) {
                CUresult failed = node();
                if (failed != CUDA_SUCCESS)
                    return failed;
            }
            return CUDA_SUCCESS;
        },
        &mark);
    if (error != CUDA_SUCCESS || !all.blocking || mark == NULL)
        return error;
    return mark_wait(&held, stream->context, mark);
}

CUresult cuGraphDestroy(CUgraph graph)
{
    CALL(CALL_CONTEXT);
    if (all.graphs.erase(graph) == 0)
        misused("%p is not a graph, or no longer", (void *)graph);
    delete graph;
    return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec exec)
{
    CALL(CALL_CONTEXT);
    if (all.executables.erase(exec) == 0)
        misused("%p is not an executable graph, or no longer", (void *)exec);
    delete exec;
    return CUDA_SUCCESS;
}
