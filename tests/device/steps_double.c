// SPDX-License-Identifier: BSD-3-Clause
// Steps on the double of libcuda, which counts calls and makes them fail: what
// a GPU's driver does not show. Beside tests/gpu/steps.c, which runs on both.
//     steps_double [CASE]
//     steps_double refused    a step must be refused; prints why
// REPLAYS: of a captured graph; 300 where it is not set.
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gpu/steps.h"

#define TOKENS 2   // the emulator is slow
#define VOCAB 1000 // rank_step's

static struct {
    long (*calls)(const char *name);
    long (*waits)(void);
    void (*fail)(const char *name, long nth, int error);
} told;

static void find(const char *name, void *out)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    void *symbol = library != NULL ? dlsym(library, name) : NULL;

    EXPECT(symbol != NULL);
    memcpy(out, &symbol, sizeof(symbol));
}

static void open_double(struct rank *rank, struct processes_member *member)
{
    find("cuda_double_calls", &told.calls);
    find("cuda_double_waits", &told.waits);
    find("cuda_double_fail", &told.fail);
    rank_open(rank, member);
}

struct arrays {
    void *labels, *logits, *gradient;
};

static struct arrays arrays_on_device(void)
{
    static int64_t labels[TOKENS] = {1, 999};
    static float logits[TOKENS * VOCAB];
    struct arrays arrays = {
        .labels = gpu_take(sizeof(labels), labels),
        .logits = gpu_take(sizeof(logits), logits),
        .gradient = gpu_take(sizeof(logits), NULL),
    };

    return arrays;
}

// The first error, or that of end.
static tally_status_t enqueue(tally_step_t *step, tally_order_t order,
                              const struct arrays *arrays,
                              tally_stream_t stream)
{
    const tally_labels_t labels = labels_at(arrays->labels, TOKENS);
    tally_logits_t logits = TALLY_INIT(tally_logits_t);
    tally_loss_outputs_t outputs = TALLY_INIT(tally_loss_outputs_t);
    tally_status_t status = tally_step_begin(step, 1, stream);

    logits.type = TALLY_F32;
    logits.values = arrays->logits;
    outputs.gradient = arrays->gradient;
    if (status == TALLY_OK && order == TALLY_COUNT_FIRST)
        status = tally_step_count(step, 0, &labels, stream);
    if (status == TALLY_OK && order == TALLY_COUNT_FIRST)
        status = tally_step_reduce(step, stream);
    if (status == TALLY_OK)
        status = tally_step_loss(step, 0, &logits, &labels, &outputs, stream);
    if (status == TALLY_OK && order == TALLY_SCALE_LATE)
        status = tally_step_reduce(step, stream);
    if (status == TALLY_OK)
        status = tally_step_end(step, stream);
    return status;
}

static tally_status_t result_of(tally_step_t *step, uint64_t epoch)
{
    tally_result_t result = TALLY_INIT(tally_result_t);

    return tally_step_result(step, epoch, TALLY_RESULT_WAIT, &result);
}

static bool waits_by(const char *way)
{
    const char *text = getenv("TALLY_STREAM_WAIT");

    return text != NULL && strcmp(text, way) == 0;
}

static void audited(struct processes_member *member, const void *unused)
{
    static const tally_order_t orders[] = {TALLY_COUNT_FIRST, TALLY_SCALE_LATE};
    struct rank rank;

    (void)unused;
    open_double(&rank, member);
    struct arrays arrays = arrays_on_device();
    for (int i = 0; i < 2; i++) {
        tally_step_t *step = rank_step(&rank, orders[i], TALLY_DEVICE_CUDA);
        const long waits = told.waits();
        for (uint64_t epoch = 1; epoch <= 20; epoch++) {
            EXPECT(enqueue(step, orders[i], &arrays, rank.stream) == TALLY_OK);
            EXPECT(result_of(step, epoch) == TALLY_OK);
        }
        EXPECT(told.waits() == waits);
        const long taken = told.calls("cuMemAlloc_v2");
        EXPECT(enqueue(step, orders[i], &arrays, rank.stream) == TALLY_OK);
        EXPECT(told.calls("cuMemAlloc_v2") == taken);
        EXPECT((told.calls("cuLaunchHostFunc") > 0) == waits_by("hostfunc"));
        EXPECT((told.calls("cuStreamWaitValue64_v2") > 0) == waits_by("memop"));
        EXPECT(tally_step_free(step) == TALLY_OK);
    }
    rank_close(&rank);
}

static void the_host_never_waits_for_the_device(void)
{
    must_return(1, audited, NULL);
}

static tally_status_t try_create(struct rank *rank, tally_step_t **step)
{
    return rank_try_step(rank, TALLY_COUNT_FIRST, 0, TALLY_DEVICE_CUDA, step);
}

// Each call of step_create fails in turn, until it fails no more: in a process
// a name, for the device is opened once.
static void create_fails(struct processes_member *member, const void *name)
{
    const int out_of_memory = 2;
    const int unheard_of = 9999; // the driver has no name for it
    struct rank rank;

    int failures = 0;

    open_double(&rank, member);
    for (bool created = false; !created; failures++) {
        tally_step_t *step = NULL;
        const long before = told.calls(name);
        told.fail(name, failures + 1,
                  failures % 2 == 0 ? out_of_memory : unheard_of);
        created = try_create(&rank, &step) == TALLY_OK;
        const bool reached = told.calls(name) > before + failures;
        told.fail(name, -1, 0);
        EXPECT(created != reached);
        EXPECT(created == (step != NULL));
        EXPECT(created || strstr(tally_last_error(), "CUDA") != NULL);
        EXPECT(created || strstr(tally_last_error(), "(null)") == NULL);
        if (created)
            EXPECT(tally_step_free(step) == TALLY_OK);
    }
    EXPECT(failures > 1); // else it is not called
    rank_close(&rank);
}

static void a_step_is_created_whole_or_not_at_all(void)
{
    static const char *const names[] = {
        "cuInit",         "cuDeviceGetAttribute",
        "cuMemAlloc_v2",  "cuModuleLoadData",
        "cuMemHostAlloc", "cuModuleGetFunction",
        "cuMemsetD8_v2",  "cuMemHostGetDevicePointer_v2"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        must_return(1, create_fails, names[i]);
}

static void poisoned(struct processes_member *member, const void *unused)
{
    struct rank rank;

    (void)unused;
    open_double(&rank, member);
    struct arrays arrays = arrays_on_device();
    tally_step_t *step = rank_step(&rank, TALLY_COUNT_FIRST, TALLY_DEVICE_CUDA);
    EXPECT(enqueue(step, TALLY_COUNT_FIRST, &arrays, rank.stream) == TALLY_OK);
    EXPECT(result_of(step, 1) == TALLY_OK);
    told.fail("kernel", 1, 719); // count, which publishes
    enqueue(step, TALLY_COUNT_FIRST, &arrays, rank.stream);
    tally_status_t status = result_of(step, 2);
    EXPECT(status == TALLY_ERR_TIMEOUT || status == TALLY_ERR_DEAD);
    _exit(0); // nothing of the context can be given back
}

static void a_broken_context_ends_in_an_error(void)
{
    setenv("TALLY_TIMEOUT", "2", 1);
    must_return(1, poisoned, NULL);
    unsetenv("TALLY_TIMEOUT");
}

struct elsewhere {
    tally_step_t *step;
    const struct arrays *arrays;
    tally_stream_t stream;
};

static void *enqueue_elsewhere(void *argument)
{
    const struct elsewhere *at = argument;

    EXPECT(enqueue(at->step, TALLY_COUNT_FIRST, at->arrays, at->stream) ==
           TALLY_OK);
    EXPECT(result_of(at->step, 1) == TALLY_OK);
    return NULL;
}

// As autograd does: its threads have no current context of their own.
static void on_a_thread(struct processes_member *member, const void *unused)
{
    struct rank rank;
    pthread_t thread;

    (void)unused;
    open_double(&rank, member);
    struct arrays arrays = arrays_on_device();
    tally_step_t *step = rank_step(&rank, TALLY_COUNT_FIRST, TALLY_DEVICE_CUDA);
    struct elsewhere at = {step, &arrays, rank.stream};
    EXPECT(pthread_create(&thread, NULL, enqueue_elsewhere, &at) == 0);
    EXPECT(pthread_join(thread, NULL) == 0);
    EXPECT(tally_step_free(step) == TALLY_OK);
    rank_close(&rank);
}

static void a_thread_without_a_context_enqueues(void)
{
    must_return(1, on_a_thread, NULL);
}

static void replayed(struct processes_member *member, const void *order)
{
    const tally_order_t *of = order;
    const char *text = getenv("REPLAYS");
    const uint64_t replays = text != NULL ? (uint64_t)atoll(text) : 300;
    struct rank rank;

    open_double(&rank, member);
    struct arrays arrays = arrays_on_device();
    tally_step_t *step = rank_step(&rank, *of, TALLY_DEVICE_CUDA);
    EXPECT(enqueue(step, *of, &arrays, rank.stream) == TALLY_OK);
    EXPECT(result_of(step, 1) == TALLY_OK);
    gpu_capture_begin(rank.stream);
    EXPECT(enqueue(step, *of, &arrays, rank.stream) == TALLY_OK);
    void *graph = gpu_capture_end(rank.stream);
    const long launches = told.calls("cuLaunchKernelEx");
    for (uint64_t i = 0; i < replays; i++)
        gpu_replay(graph, rank.stream);
    gpu_synchronize(rank.stream); // a result's deadline is an epoch's
    EXPECT(result_of(step, replays + 1) == TALLY_OK);
    EXPECT(told.calls("cuLaunchKernelEx") == launches);
    EXPECT(tally_step_free(step) == TALLY_OK);
    rank_close(&rank);
}

static void a_graph_is_replayed_without_the_host(void)
{
    static const tally_order_t orders[] = {TALLY_COUNT_FIRST, TALLY_SCALE_LATE};

    for (int i = 0; i < 2; i++)
        must_return(1, replayed, &orders[i]);
}

// ------------------------------------------------ counts that publish

static void count(tally_step_t *step, const struct arrays *arrays,
                  int64_t tokens, tally_stream_t stream)
{
    const tally_labels_t labels = labels_at(arrays->labels, tokens);

    EXPECT(tally_step_count(step, 0, &labels, stream) == TALLY_OK);
    gpu_synchronize(stream); // what is on two streams is joined
}

// An epoch of two micro-batches; the last one of so many tokens. Returns how
// many kernels were launched to count and publish.
static long launches_of(tally_step_t *step, const struct arrays *arrays,
                        tally_stream_t first, tally_stream_t second,
                        int64_t tokens, tally_stream_t end)
{
    static uint64_t epoch = 0;
    tally_channel_result_t channel = TALLY_INIT(tally_channel_result_t);
    tally_result_t result = TALLY_INIT(tally_result_t);
    const long before = told.calls("cuLaunchKernelEx");

    EXPECT(tally_step_begin(step, 2, first) == TALLY_OK);
    count(step, arrays, TOKENS, first);
    count(step, arrays, tokens, second);
    EXPECT(tally_step_reduce(step, second) == TALLY_OK);
    const long launches = told.calls("cuLaunchKernelEx") - before;
    gpu_synchronize(second);
    EXPECT(tally_step_end(step, end) == TALLY_OK);
    gpu_synchronize(end);
    result.channels = &channel;
    result.channel_capacity = 1;
    EXPECT(tally_step_result(step, ++epoch, TALLY_RESULT_WAIT, &result) ==
           TALLY_OK);
    EXPECT(channel.count == TOKENS + tokens);
    return launches;
}

static void launched(struct processes_member *member, const void *unused)
{
    const tally_stream_t of_thread = (tally_stream_t)2;
    struct rank rank;

    (void)unused;
    open_double(&rank, member);
    struct arrays arrays = arrays_on_device();
    tally_step_t *step = rank_step(&rank, TALLY_COUNT_FIRST, TALLY_DEVICE_CUDA);
    const tally_stream_t a = rank.stream;
    const tally_stream_t b = gpu_stream();
    const tally_stream_t t = of_thread;
    // The first epoch has nothing before it.
    EXPECT(launches_of(step, &arrays, a, a, TOKENS, a) == 3);
    EXPECT(launches_of(step, &arrays, a, a, TOKENS, a) == 2);
    EXPECT(launches_of(step, &arrays, a, a, 0, a) == 2); // count, publish
    EXPECT(launches_of(step, &arrays, a, a, TOKENS, b) == 2);
    // The epoch before ends in another stream, and may not have.
    EXPECT(launches_of(step, &arrays, a, a, TOKENS, a) == 3);
    EXPECT(launches_of(step, &arrays, b, a, TOKENS, a) == 3);
    EXPECT(launches_of(step, &arrays, a, b, TOKENS, t) == 3);
    EXPECT(launches_of(step, &arrays, t, t, TOKENS, t) == 3);
    EXPECT(launches_of(step, &arrays, t, t, TOKENS, b) == 3);
    EXPECT(launches_of(step, &arrays, b, b, TOKENS, b) == 2);
    EXPECT(tally_step_free(step) == TALLY_OK);
    rank_close(&rank);
}

static void the_last_count_publishes_where_all_is_on_one_stream(void)
{
    must_return(1, launched, NULL);
}

// High: of logits near 0 it takes nothing that is seen here.
static tally_step_t *capped_step(const struct rank *rank)
{
    tally_channel_t channel = TALLY_INIT(tally_channel_t);
    tally_step_params_t params = TALLY_INIT(tally_step_params_t);
    tally_step_t *step;

    channel.vocab = VOCAB;
    channel.soft_cap = 1e6;
    params.channels = &channel;
    params.channel_count = 1;
    params.device = TALLY_DEVICE_CUDA;
    EXPECT(tally_step_create(rank->group, &params, &step) == TALLY_OK);
    return step;
}

// ------------------------------------------------ short rows of 16 bits

#define ROWS 144 // as many as go to blocks of several

// A step of logits that are 0 but for the label's, which is 1.
static void step_of_rows(tally_step_t *step, uint64_t epoch, int64_t tokens,
                         tally_stream_t stream)
{
    const uint16_t one = 0x3f80; // in bfloat16
    static int64_t columns[ROWS];
    static uint16_t values[ROWS * VOCAB];
    static float nll[ROWS];
    tally_logits_t logits = TALLY_INIT(tally_logits_t);
    tally_loss_outputs_t outputs = TALLY_INIT(tally_loss_outputs_t);

    for (int i = 0; i < ROWS; i++) {
        columns[i] = i * 6;
        values[i * VOCAB + columns[i]] = one;
    }
    const tally_labels_t labels =
        labels_at(gpu_take(sizeof(columns), columns), tokens);
    logits.type = TALLY_BF16;
    logits.values = gpu_take(sizeof(values), values);
    outputs.nll = gpu_take(sizeof(nll), NULL);
    EXPECT(tally_step_begin(step, 1, stream) == TALLY_OK);
    EXPECT(tally_step_count(step, 0, &labels, stream) == TALLY_OK);
    EXPECT(tally_step_reduce(step, stream) == TALLY_OK);
    EXPECT(tally_step_loss(step, 0, &logits, &labels, &outputs, stream) ==
           TALLY_OK);
    EXPECT(tally_step_end(step, stream) == TALLY_OK);
    EXPECT(result_of(step, epoch) == TALLY_OK);
    gpu_synchronize(stream);
    gpu_get(nll, outputs.nll, sizeof(nll));
    for (int64_t i = 0; i < tokens; i++)
        EXPECT(fabs(nll[i] - (log(VOCAB - 1 + exp(1)) - 1)) < 1e-5);
}

static void of_rows(struct processes_member *member, const void *unused)
{
    struct rank rank;

    (void)unused;
    open_double(&rank, member);
    tally_step_t *step = rank_step(&rank, TALLY_COUNT_FIRST, TALLY_DEVICE_CUDA);
    step_of_rows(step, 1, ROWS - 1, rank.stream);
    EXPECT(told.calls("tally_loss_bf16") == 1);
    EXPECT(told.calls("tally_loss_rows_bf16") == 0);
    step_of_rows(step, 2, ROWS, rank.stream);
    EXPECT(told.calls("tally_loss_bf16") == 1);
    EXPECT(told.calls("tally_loss_rows_bf16") == 1);
    EXPECT(tally_step_free(step) == TALLY_OK);
    step = capped_step(&rank); // no such kernel heeds the cap
    step_of_rows(step, 1, ROWS, rank.stream);
    EXPECT(told.calls("tally_loss_bf16_shaped") == 1);
    EXPECT(told.calls("tally_loss_rows_bf16") == 1);
    EXPECT(tally_step_free(step) == TALLY_OK);
    rank_close(&rank);
}

static void many_short_rows_go_to_blocks_of_several(void)
{
    must_return(1, of_rows, NULL);
}

// A gradient in two passes needs memory between them.
static void freed(struct processes_member *member, const void *unused)
{
    struct rank rank;

    (void)unused;
    open_double(&rank, member);
    const struct arrays arrays = arrays_on_device();
    EXPECT(tally_step_free(rank_step(&rank, TALLY_COUNT_FIRST,
                                     TALLY_DEVICE_CUDA)) == TALLY_OK);
    const long held = told.calls("cuMemAlloc_v2") - told.calls("cuMemFree_v2");
    tally_step_t *step = capped_step(&rank);
    const long taken = told.calls("cuMemAlloc_v2");
    for (uint64_t epoch = 1; epoch <= 3; epoch++) {
        EXPECT(enqueue(step, TALLY_COUNT_FIRST, &arrays, rank.stream) ==
               TALLY_OK);
        EXPECT(result_of(step, epoch) == TALLY_OK);
    }
    EXPECT(told.calls("cuMemAlloc_v2") == taken + 1);
    EXPECT(tally_step_free(step) == TALLY_OK);
    EXPECT(told.calls("cuMemAlloc_v2") - told.calls("cuMemFree_v2") == held);
    rank_close(&rank);
}

static void what_a_steps_losses_took_is_freed_with_it(void)
{
    must_return(1, freed, NULL);
}

// Of a driver that has no GPU, or is too old: says what Tally says.
static int refused(void)
{
    struct rank rank = {0};
    tally_step_t *step;

    EXPECT(tally_open(NULL, &rank.tally) == TALLY_OK);
    EXPECT(tally_group_create(rank.tally, NULL, &rank.group) == TALLY_OK);
    EXPECT(try_create(&rank, &step) == TALLY_ERR_UNSUPPORTED);
    puts(tally_last_error());
    EXPECT(tally_group_free(rank.group) == TALLY_OK);
    EXPECT(tally_close(rank.tally) == TALLY_OK);
    return 0;
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
#define CASE(name)                                                             \
    {                                                                          \
        #name, name                                                            \
    }
    CASE(the_host_never_waits_for_the_device),
    CASE(a_step_is_created_whole_or_not_at_all),
    CASE(a_broken_context_ends_in_an_error),
    CASE(a_thread_without_a_context_enqueues),
    CASE(a_graph_is_replayed_without_the_host),
    CASE(what_a_steps_losses_took_is_freed_with_it),
    CASE(the_last_count_publishes_where_all_is_on_one_stream),
    CASE(many_short_rows_go_to_blocks_of_several),
#undef CASE
};

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "refused") == 0)
        return refused();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (argc > 1 && strstr(cases[i].name, argv[1]) == NULL)
            continue;
        printf("%s\n", cases[i].name);
        fflush(stdout);
        cases[i].run();
    }
    return 0;
}
