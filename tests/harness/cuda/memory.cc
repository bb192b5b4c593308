// SPDX-License-Identifier: BSD-3-Clause
// Device memory and pinned memory. An allocation ends, to 256 bytes, where a
// page that nobody may touch begins; while no stream works, nobody may touch
// device memory either: a host that reads it ends with SIGSEGV.
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "harness/cuda/double.h"

using namespace cuda_double;

#define ALIGNMENT 256
#define CANARY 0xa5
#define UNWRITTEN 0xcd // real memory is not zero either

namespace
{

size_t round_up(size_t bytes, size_t unit)
{
    return (bytes + unit - 1) / unit * unit;
}

size_t slack(const struct allocation &memory)
{
    return round_up(memory.bytes, ALIGNMENT) - memory.bytes;
}

void protect(const struct allocation &memory, int rights)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    if (mprotect(memory.mapped, memory.mapped_bytes - page, rights) != 0)
        misused("the rights of memory cannot be set");
}

char *memory_new(CUcontext context, size_t bytes, bool device)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t taken = round_up(bytes, ALIGNMENT);
    struct allocation memory = {context, bytes, NULL,
                                round_up(taken, page) + page, device};
    void *mapped = mmap(NULL, memory.mapped_bytes, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (mapped == MAP_FAILED)
        return NULL;
    memory.mapped = (char *)mapped;
    char *at = memory.mapped + memory.mapped_bytes - page - taken;
    protect(memory, PROT_READ | PROT_WRITE);
    memset(memory.mapped, CANARY, memory.mapped_bytes - page);
    memset(at, UNWRITTEN, bytes);
    if (device && all.running == 0)
        protect(memory, PROT_NONE);
    all.memory[at] = memory;
    return at;
}

void memory_check(const char *at, const struct allocation &memory)
{
    for (size_t i = 0; i < slack(memory); i++)
        if ((unsigned char)at[memory.bytes + i] != CANARY)
            misused("memory of %zu bytes was written at byte %zu", memory.bytes,
                    memory.bytes + i);
    for (const char *before = memory.mapped; before < at; before++)
        if ((unsigned char)*before != CANARY)
            misused("memory was written %td bytes before it begins",
                    at - before);
}

void memory_delete(char *at)
{
    const struct allocation memory = all.memory[at];

    protect(memory, PROT_READ | PROT_WRITE);
    memory_check(at, memory);
    munmap(memory.mapped, memory.mapped_bytes);
    all.memory.erase(at);
}

// What is under way in the context may use the memory.
void context_drain(guard *held, CUcontext context)
{
    std::vector<mark_ref> marks;

    for (CUstream stream : all.streams)
        if (stream->context == context && stream->last != NULL)
            marks.push_back(stream->last);
    for (const mark_ref &mark : marks)
        mark_wait(held, context, mark);
}

CUresult memory_free(guard *held, char *at, bool device)
{
    auto found = all.memory.find(at);

    if (at == NULL)
        return device ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    if (found == all.memory.end() || found->second.device != device)
        return CUDA_ERROR_INVALID_VALUE;
    context_drain(held, found->second.context);
    memory_delete(at);
    return CUDA_SUCCESS;
}

CUresult copy(guard *held, char *to, const char *from, size_t bytes,
              CUstream handle, bool waits)
{
    CUstream stream = stream_of(handle);
    mark_ref mark;

    if (stream == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    CUresult error = stream_add(
        stream,
        [=] {
            memcpy(to, from, bytes);
            return CUDA_SUCCESS;
        },
        &mark);
    if (error != CUDA_SUCCESS || !waits)
        return error;
    return mark_wait(held, stream->context, mark);
}

bool is_device(CUdeviceptr at, size_t bytes)
{
    const struct allocation *memory = memory_find((void *)at, bytes);

    return memory != NULL && memory->device;
}

// The host waits for copies of memory that is not pinned.
int copy_traits(const void *host, size_t bytes)
{
    guard held(all.lock);

    return memory_find(host, bytes) == NULL ? CALL_WAITS : 0;
}

} // namespace

const struct allocation *cuda_double::memory_find(const void *at, size_t bytes)
{
    auto after = all.memory.upper_bound((char *)at);

    if (after == all.memory.begin())
        return NULL;
    const auto &found = *--after;
    const size_t offset = (size_t)((const char *)at - found.first);
    return offset <= found.second.bytes && bytes <= found.second.bytes - offset
               ? &found.second
               : NULL;
}

char *cuda_double::memory_at(CUdeviceptr at, size_t bytes)
{
    return memory_find((void *)at, bytes) != NULL ? (char *)at : NULL;
}

void cuda_double::memory_open()
{
    if (all.running++ > 0)
        return;
    for (const auto &memory : all.memory)
        if (memory.second.device)
            protect(memory.second, PROT_READ | PROT_WRITE);
}

void cuda_double::memory_close()
{
    if (--all.running > 0)
        return;
    for (const auto &memory : all.memory)
        if (memory.second.device)
            protect(memory.second, PROT_NONE);
}

void cuda_double::memory_end(CUcontext context)
{
    std::vector<char *> own;

    for (const auto &memory : all.memory)
        if (memory.second.context == context)
            own.push_back(memory.first);
    for (char *at : own)
        memory_delete(at);
}

CUresult cuMemAlloc_v2(CUdeviceptr *memory, size_t bytes)
{
    CALL(CALL_CONTEXT | CALL_UNSAFE);
    if (bytes == 0)
        return CUDA_ERROR_INVALID_VALUE;
    char *at = memory_new(context_current(), bytes, true);
    if (at == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *memory = (CUdeviceptr)at;
    return CUDA_SUCCESS;
}

CUresult cuMemFree_v2(CUdeviceptr memory)
{
    CALL(CALL_CONTEXT | CALL_UNSAFE | CALL_WAITS);
    return memory_free(&held, (char *)memory, true);
}

CUresult cuMemHostAlloc(void **memory, size_t bytes, unsigned int flags)
{
    CALL(CALL_CONTEXT | CALL_UNSAFE);
    if (bytes == 0 || flags > 7)
        return CUDA_ERROR_INVALID_VALUE;
    *memory = memory_new(context_current(), bytes, false);
    return *memory != NULL ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemFreeHost(void *memory)
{
    CALL(CALL_CONTEXT | CALL_UNSAFE | CALL_WAITS);
    return memory_free(&held, (char *)memory, false);
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *on_device, void *memory,
                                      unsigned int flags)
{
    CALL(CALL_CONTEXT);
    const struct allocation *found = memory_find(memory, 1);

    if (found == NULL || found->device || flags != 0)
        return CUDA_ERROR_INVALID_VALUE;
    *on_device = (CUdeviceptr)memory;
    return CUDA_SUCCESS;
}

static CUresult fill(CUdeviceptr memory, unsigned char value, size_t bytes,
                     CUstream handle)
{
    CUstream stream = stream_of(handle);

    if (stream == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    if (memory_at(memory, bytes) == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    return stream_add(
        stream,
        [=] {
            memset((void *)memory, value, bytes);
            return CUDA_SUCCESS;
        },
        NULL);
}

// Of device memory: the host does not wait.
CUresult cuMemsetD8_v2(CUdeviceptr memory, unsigned char value, size_t bytes)
{
    CALL(CALL_CONTEXT | CALL_UNSAFE);
    return fill(memory, value, bytes, NULL);
}

CUresult cuMemsetD8Async(CUdeviceptr memory, unsigned char value, size_t bytes,
                         CUstream stream)
{
    CALL(CALL_CONTEXT);
    return fill(memory, value, bytes, stream);
}

CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes)
{
    CALL(CALL_CONTEXT | CALL_UNSAFE | CALL_WAITS);
    if (!is_device(from, bytes))
        return CUDA_ERROR_INVALID_VALUE;
    return copy(&held, (char *)to, (char *)from, bytes, NULL, true);
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes)
{
    CALL(CALL_CONTEXT | CALL_UNSAFE | CALL_WAITS);
    if (!is_device(to, bytes))
        return CUDA_ERROR_INVALID_VALUE;
    return copy(&held, (char *)to, (const char *)from, bytes, NULL, true);
}

CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes,
                              CUstream stream)
{
    const int traits = copy_traits(to, bytes);
    CALL(CALL_CONTEXT | traits);
    if (!is_device(from, bytes))
        return CUDA_ERROR_INVALID_VALUE;
    return copy(&held, (char *)to, (char *)from, bytes, stream, traits != 0);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes,
                              CUstream stream)
{
    const int traits = copy_traits(from, bytes);
    CALL(CALL_CONTEXT | traits);
    if (!is_device(to, bytes))
        return CUDA_ERROR_INVALID_VALUE;
    return copy(&held, (char *)to, (const char *)from, bytes, stream,
                traits != 0);
}
