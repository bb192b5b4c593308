// SPDX-License-Identifier: BSD-3-Clause
// Tests of the double of libcuda: that it is as strict as the driver, for what
// Tally's device code is then tested with.
#include <check.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/cuda/api.h"
#include "harness/cuda/control.h"
#include "kernels/params.h"

#define MUST(call) ck_assert_int_eq((call), CUDA_SUCCESS)

static void begin(void)
{
    CUcontext context;

    MUST(cuInit(0));
    MUST(cuDevicePrimaryCtxRetain(&context, 0));
    MUST(cuCtxSetCurrent(context));
}

static CUstream new_stream(unsigned int flags)
{
    CUstream stream;

    MUST(cuStreamCreate(&stream, flags));
    return stream;
}

static CUdeviceptr new_memory(size_t bytes)
{
    CUdeviceptr memory;

    MUST(cuMemAlloc_v2(&memory, bytes));
    return memory;
}

static uint64_t word_at(CUdeviceptr memory)
{
    uint64_t word;

    MUST(cuMemcpyDtoH_v2(&word, memory, sizeof(word)));
    return word;
}

static atomic_int gate;

static void wait_at_gate(void *unused)
{
    (void)unused;
    while (atomic_load(&gate) == 0)
        usleep(100);
}

static void close_gate(CUstream stream)
{
    atomic_store(&gate, 0);
    MUST(cuLaunchHostFunc(stream, wait_at_gate, NULL));
}

static void open_gate(void)
{
    atomic_store(&gate, 1);
    MUST(cuCtxSynchronize());
}

static CUmodule module;
static const struct {
    uint32_t magic;
    char rest[60];
} image = {0xba55ed50u, ""};

static CUfunction function(const char *name)
{
    CUfunction found;

    if (module == NULL)
        MUST(cuModuleLoadData(&module, &image));
    MUST(cuModuleGetFunction(&found, module, name));
    return found;
}

// Counts labels 1, 2, -100 and 7 of a vocabulary of 5 into a record.
static CUresult launch_count(CUstream stream, CUdeviceptr record)
{
    static const int32_t labels[] = {1, 2, -100, 7};
    static CUfunction count_kernel;
    CUdeviceptr on_device = new_memory(sizeof(labels));
    CUlaunchConfig config = {1, 1, 1, 256, 1, 1, 0, stream, NULL, 0};
    struct kernel_count count = {
        {(const void *)(uintptr_t)on_device, NULL, 4, 5, -100, 0, 0},
        (struct numeric_record *)(uintptr_t)record};
    void *parameters[] = {&count};

    if (count_kernel == NULL)
        count_kernel = function("tally_count");
    MUST(cuMemcpyHtoD_v2(on_device, labels, sizeof(labels)));
    return cuLaunchKernelEx(&config, count_kernel, parameters, NULL);
}

static CUdeviceptr new_record(void)
{
    CUdeviceptr record = new_memory(sizeof(struct numeric_record));

    MUST(cuMemsetD8_v2(record, 0, sizeof(struct numeric_record)));
    return record;
}

static struct numeric_record record_at(CUdeviceptr at)
{
    struct numeric_record record;

    MUST(cuMemcpyDtoH_v2(&record, at, sizeof(record)));
    return record;
}

START_TEST(a_kernel_runs_by_its_name)
{
    CUfunction none;

    begin();
    CUdeviceptr record = new_record();
    MUST(launch_count(NULL, record));
    ck_assert_int_eq(record_at(record).count, 2);
    ck_assert_int_eq(cuModuleGetFunction(&none, module, "tally_nothing"),
                     CUDA_ERROR_NOT_FOUND);
    ck_assert_int_eq(cuModuleLoadData(&module, "no image"),
                     CUDA_ERROR_INVALID_IMAGE);
}
END_TEST

START_TEST(the_legacy_stream_waits_for_blocking_streams_and_they_for_it)
{
    begin();
    CUstream blocking = new_stream(0);
    CUstream other = new_stream(0);
    CUstream free_one = new_stream(CU_STREAM_NON_BLOCKING);
    CUdeviceptr memory = new_memory(64);
    close_gate(blocking);
    MUST(cuMemsetD8Async(memory + 0, 1, 8, other)); // nothing between them yet
    MUST(cuStreamSynchronize(other));
    MUST(cuMemsetD8Async(memory + 8, 1, 8, CU_STREAM_LEGACY));
    MUST(cuMemsetD8Async(memory + 16, 1, 8, other));
    MUST(cuMemsetD8Async(memory + 24, 1, 8, CU_STREAM_PER_THREAD));
    MUST(cuMemsetD8Async(memory + 32, 1, 8, free_one));
    MUST(cuStreamSynchronize(free_one));
    ck_assert_int_eq(cuStreamQuery(NULL), CUDA_ERROR_NOT_READY);
    ck_assert_int_eq(cuStreamQuery(other), CUDA_ERROR_NOT_READY);
    ck_assert_int_eq(cuStreamQuery(CU_STREAM_PER_THREAD), CUDA_ERROR_NOT_READY);
    open_gate();
    MUST(cuStreamQuery(other));
}
END_TEST

START_TEST(an_event_joins_streams)
{
    CUevent event;

    begin();
    CUstream a = new_stream(CU_STREAM_NON_BLOCKING);
    CUstream b = new_stream(CU_STREAM_NON_BLOCKING);
    MUST(cuEventCreate(&event, 0));
    MUST(cuEventQuery(event)); // never recorded
    close_gate(a);
    MUST(cuEventRecord(event, a));
    MUST(cuStreamWaitEvent(b, event, 0));
    ck_assert_int_eq(cuEventQuery(event), CUDA_ERROR_NOT_READY);
    ck_assert_int_eq(cuStreamQuery(b), CUDA_ERROR_NOT_READY);
    open_gate();
    MUST(cuEventSynchronize(event));
    MUST(cuEventDestroy_v2(event));
}
END_TEST

START_TEST(a_graph_repeats_what_was_captured)
{
    CUgraph graph;
    CUgraphExec exec;
    CUevent fork_event, join_event;

    begin();
    CUstream stream = new_stream(CU_STREAM_NON_BLOCKING);
    CUstream side = new_stream(CU_STREAM_NON_BLOCKING);
    CUdeviceptr record = new_record();
    MUST(launch_count(NULL, record));
    MUST(cuEventCreate(&fork_event, 0));
    MUST(cuEventCreate(&join_event, 0));
    MUST(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    MUST(launch_count(stream, record));
    MUST(cuEventRecord(fork_event, stream));
    MUST(cuStreamWaitEvent(side, fork_event, 0));
    MUST(launch_count(side, record));
    MUST(cuEventRecord(join_event, side));
    MUST(cuStreamWaitEvent(stream, join_event, 0));
    MUST(cuStreamEndCapture(stream, &graph));
    ck_assert_int_eq(record_at(record).count, 2);
    MUST(cuGraphInstantiateWithFlags(&exec, graph, 0));
    MUST(cuGraphDestroy(graph));
    for (int i = 0; i < 10; i++)
        MUST(cuGraphLaunch(exec, stream));
    MUST(cuStreamSynchronize(stream));
    ck_assert_int_eq(record_at(record).count, 2 + 10 * 4);
    MUST(cuGraphExecDestroy(exec));
}
END_TEST

START_TEST(a_capture_is_spoilt_by_what_waits)
{
    CUgraph graph;
    CUdeviceptr memory;
    int status;

    begin();
    CUstream stream = new_stream(0);
    MUST(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    MUST(cuStreamIsCapturing(stream, &status));
    ck_assert_int_eq(status, CU_STREAM_CAPTURE_STATUS_ACTIVE);
    ck_assert_int_eq(cuMemAlloc_v2(&memory, 8),
                     CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    MUST(cuStreamIsCapturing(stream, &status));
    ck_assert_int_eq(status, CU_STREAM_CAPTURE_STATUS_INVALIDATED);
    ck_assert_int_eq(cuStreamEndCapture(stream, &graph),
                     CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    MUST(cuMemAlloc_v2(&memory, 8));
    MUST(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    ck_assert_int_eq(cuMemsetD8Async(memory, 0, 8, NULL),
                     CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    ck_assert_int_eq(cuStreamEndCapture(stream, &graph),
                     CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    ck_assert_int_eq(cuStreamEndCapture(stream, &graph),
                     CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
}
END_TEST

static CUresult called_back;

static void call_cuda(void *unused)
{
    CUdeviceptr memory;

    (void)unused;
    called_back = cuMemAlloc_v2(&memory, 8);
}

START_TEST(a_host_function_may_not_call_cuda)
{
    begin();
    MUST(cuLaunchHostFunc(NULL, call_cuda, NULL));
    MUST(cuCtxSynchronize());
    ck_assert_int_eq(called_back, CUDA_ERROR_NOT_PERMITTED);
}
END_TEST

START_TEST(a_stream_waits_for_a_value_that_another_writes)
{
    begin();
    CUstream a = new_stream(CU_STREAM_NON_BLOCKING);
    CUstream b = new_stream(CU_STREAM_NON_BLOCKING);
    CUdeviceptr word = new_memory(8);
    MUST(cuMemsetD8_v2(word, 0, 8));
    MUST(cuCtxSynchronize());
    MUST(cuStreamWaitValue64_v2(a, word, 5, CU_STREAM_WAIT_VALUE_GEQ));
    MUST(cuStreamWriteValue64_v2(b, word, 4, 0));
    MUST(cuStreamSynchronize(b));
    ck_assert_int_eq(cuStreamQuery(a), CUDA_ERROR_NOT_READY);
    MUST(cuStreamWriteValue64_v2(b, word, 6, 0));
    MUST(cuStreamSynchronize(a));
    ck_assert_uint_eq(word_at(word), 6);
}
END_TEST

START_TEST(a_failed_kernel_is_the_end_of_the_context)
{
    begin();
    CUdeviceptr record = new_record();
    CUdeviceptr memory;
    cuda_double_fail("kernel", 1, CUDA_ERROR_LAUNCH_FAILED);
    MUST(launch_count(NULL, record)); // enqueued
    ck_assert_int_eq(cuCtxSynchronize(), CUDA_ERROR_LAUNCH_FAILED);
    ck_assert_int_eq(cuMemAlloc_v2(&memory, 8), CUDA_ERROR_LAUNCH_FAILED);
}
END_TEST

START_TEST(the_nth_call_fails)
{
    begin();
    CUdeviceptr memory;
    cuda_double_fail("cuMemAlloc_v2", 2, CUDA_ERROR_OUT_OF_MEMORY);
    MUST(cuMemAlloc_v2(&memory, 8));
    ck_assert_int_eq(cuMemAlloc_v2(&memory, 8), CUDA_ERROR_OUT_OF_MEMORY);
    MUST(cuMemAlloc_v2(&memory, 8));
    ck_assert_int_eq(cuda_double_calls("cuMemAlloc_v2"), 3);
}
END_TEST

START_TEST(what_the_host_waits_for_is_counted)
{
    uint64_t pageable = 0;
    void *pinned;

    begin();
    CUdeviceptr memory = new_memory(8);
    MUST(cuMemHostAlloc(&pinned, 8, 0));
    long before = cuda_double_waits();
    MUST(cuMemsetD8Async(memory, 0, 8, NULL));
    MUST(cuMemcpyDtoHAsync_v2(pinned, memory, 8, NULL));
    ck_assert_int_eq(cuda_double_waits(), before);
    MUST(cuMemcpyDtoHAsync_v2(&pageable, memory, 8, NULL));
    ck_assert_int_eq(cuda_double_waits(), before + 1);
    MUST(cuStreamSynchronize(NULL));
    MUST(cuCtxSynchronize());
    ck_assert_int_eq(cuda_double_waits(), before + 3);
}
END_TEST

START_TEST(another_context_s_stream_and_kernel_are_refused)
{
    CUcontext second;

    setenv("CUDA_DOUBLE_DEVICES", "2", 1);
    begin();
    CUdeviceptr record = new_record();
    CUstream stream = new_stream(0);
    MUST(launch_count(NULL, record));
    MUST(cuDevicePrimaryCtxRetain(&second, 1));
    MUST(cuCtxPushCurrent_v2(second));
    ck_assert_int_eq(cuStreamQuery(stream), CUDA_ERROR_INVALID_HANDLE);
    ck_assert_int_eq(launch_count(NULL, record), CUDA_ERROR_INVALID_HANDLE);
    MUST(cuCtxPopCurrent_v2(NULL));
    MUST(cuStreamQuery(stream));
    MUST(cuCtxSynchronize());
    MUST(cuCtxPopCurrent_v2(NULL));
    ck_assert_int_eq(cuStreamQuery(stream), CUDA_ERROR_INVALID_CONTEXT);
}
END_TEST

START_TEST(without_a_device_there_is_none)
{
    int count;

    setenv("CUDA_DOUBLE_DEVICES", "0", 1);
    ck_assert_int_eq(cuInit(0), CUDA_ERROR_NO_DEVICE);
    ck_assert_int_eq(cuDeviceGetCount(&count), CUDA_ERROR_NOT_INITIALIZED);
}
END_TEST

START_TEST(launches_block_where_they_are_told_to)
{
    setenv("CUDA_LAUNCH_BLOCKING", "1", 1);
    begin();
    CUstream stream = new_stream(CU_STREAM_NON_BLOCKING);
    CUdeviceptr record = new_record();
    MUST(cuCtxSynchronize());
    for (int i = 0; i < 20; i++) {
        MUST(launch_count(stream, record));
        MUST(cuStreamQuery(stream));
    }
}
END_TEST

START_TEST(one_hardware_queue_holds_up_other_streams)
{
    setenv("CUDA_DEVICE_MAX_CONNECTIONS", "1", 1);
    begin();
    CUstream a = new_stream(CU_STREAM_NON_BLOCKING);
    CUstream b = new_stream(CU_STREAM_NON_BLOCKING);
    CUdeviceptr memory = new_memory(16);
    close_gate(a);
    MUST(cuMemsetD8Async(memory, 1, 8, b)); // the gate is under way
    MUST(cuStreamSynchronize(b));
    MUST(cuMemsetD8Async(memory + 8, 2, 8, a)); // waits, at the queue's head
    MUST(cuMemsetD8Async(memory, 3, 8, b));
    ck_assert_int_eq(cuStreamQuery(b), CUDA_ERROR_NOT_READY);
    open_gate();
}
END_TEST

// What ends the process that does it.
static void host_reads_device_memory(void)
{
    CUdeviceptr memory = new_memory(8);

    MUST(cuCtxSynchronize());
    (void)*(volatile char *)(uintptr_t)memory;
}

static void device_memory_is_overrun(void)
{
    void *pinned;

    MUST(cuMemHostAlloc(&pinned, 10, 0));
    *((volatile char *)pinned + 10) = 0;
    MUST(cuMemFreeHost(pinned));
}

static void a_stream_is_used_after_its_end(void)
{
    CUstream stream = new_stream(0);

    MUST(cuStreamDestroy_v2(stream));
    cuStreamQuery(stream);
}

START_TEST(misuse_ends_the_process)
{
    static void (*const all[])(void) = {host_reads_device_memory,
                                        device_memory_is_overrun,
                                        a_stream_is_used_after_its_end};
    int status;

    fflush(NULL);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        begin();
        all[_i]();
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("double");
    TCase *tests = tcase_create("double");

    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, a_kernel_runs_by_its_name);
    tcase_add_test(
        tests, the_legacy_stream_waits_for_blocking_streams_and_they_for_it);
    tcase_add_test(tests, an_event_joins_streams);
    tcase_add_test(tests, a_graph_repeats_what_was_captured);
    tcase_add_test(tests, a_capture_is_spoilt_by_what_waits);
    tcase_add_test(tests, a_host_function_may_not_call_cuda);
    tcase_add_test(tests, a_stream_waits_for_a_value_that_another_writes);
    tcase_add_test(tests, a_failed_kernel_is_the_end_of_the_context);
    tcase_add_test(tests, the_nth_call_fails);
    tcase_add_test(tests, what_the_host_waits_for_is_counted);
    tcase_add_test(tests, another_context_s_stream_and_kernel_are_refused);
    tcase_add_test(tests, without_a_device_there_is_none);
    tcase_add_test(tests, launches_block_where_they_are_told_to);
    tcase_add_test(tests, one_hardware_queue_holds_up_other_streams);
    tcase_add_loop_test(tests, misuse_ends_the_process, 0, 3);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
