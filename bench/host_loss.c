// SPDX-License-Identifier: BSD-3-Clause
// How fast the host device goes through logits, next to how fast the same
// threads read the same memory: trials of all in turns, medians of each.
// A figure is the least traffic there can be, rows read once and gradients
// written once, over the time.
#include <getopt.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "device/device.h"
#include "device/host_pool.h"
#include "json.h"
#include "perf/samples.h"

#define TRIALS 9
#define TRIALS_MAX 1000
// Much more than a last-level cache has.
#define LOGITS_BYTES ((int64_t)256 << 20)
#define READ_GRAIN_BYTES ((int64_t)1 << 18)

static const struct shape {
    const char *name;
    int64_t vocab;
    tally_dtype_t type;
    const char *type_name;
    bool gradient; // in place
} shapes[] = {
    {"forward", 128256, TALLY_BF16, "bf16", false},
    {"gradient", 128256, TALLY_BF16, "bf16", true},
    {"forward", 32000, TALLY_BF16, "bf16", false},
    {"gradient", 32000, TALLY_BF16, "bf16", true},
    {"forward", 32000, TALLY_F16, "f16", false},
    {"gradient", 32000, TALLY_F16, "f16", true},
    {"forward", 32000, TALLY_F32, "f32", false},
    {"gradient", 32000, TALLY_F32, "f32", true},
};
#define SHAPE_COUNT (sizeof(shapes) / sizeof(shapes[0]))

struct bench {
    int32_t threads;
    const char *isa;
    int64_t trials;
    bool as_json;
    char *logits;
    int32_t *labels;
    struct device *device;
    struct host_pool *pool; // for reading
    struct samples read;
    struct samples samples[SHAPE_COUNT];
};

static int64_t element_size(tally_dtype_t type)
{
    return type == TALLY_F32 ? 4 : 2;
}

static int64_t shape_tokens(const struct shape *shape)
{
    return LOGITS_BYTES / (shape->vocab * element_size(shape->type));
}

// Logits from -8 to 8 in steps of 1/16, which all types hold.
static void fill(const struct bench *bench, tally_dtype_t type)
{
    int64_t count = LOGITS_BYTES / element_size(type);
    uint64_t state = 1;

    for (int64_t i = 0; i < count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        float x = (float)((int64_t)(state >> 56) - 128) / 16;
        uint32_t bits;
        memcpy(&bits, &x, sizeof(bits));
        uint16_t half = (uint16_t)(bits >> 16);
        if (type == TALLY_F16 && (bits & 0x7fffffff) != 0)
            half = (uint16_t)((bits >> 16 & 0x8000) |
                              ((bits >> 13 & 0x3ffff) - ((127 - 15) << 10)));
        if (type == TALLY_F32)
            memcpy(bench->logits + 4 * i, &x, sizeof(x));
        else
            memcpy(bench->logits + 2 * i, &half, sizeof(half));
    }
}

typedef uint64_t words __attribute__((vector_size(16)));

static void read_bytes(const void *context, int64_t begin, int64_t end,
                       struct numeric_record *record)
{
    const words *from = (const words *)context + begin / 16;
    const words *to = (const words *)context + end / 16;
    words a = {0}, b = {0}, c = {0}, d = {0};

    for (; from < to; from += 4) {
        a += from[0];
        b += from[1];
        c += from[2];
        d += from[3];
    }
    a += b + c + d;
    record->loss_lo = (int64_t)((uint64_t)record->loss_lo + a[0] + a[1]);
}

static int64_t time_read(const struct bench *bench)
{
    struct host_job job = {.work = read_bytes,
                           .context = bench->logits,
                           .rows = LOGITS_BYTES,
                           .grain = READ_GRAIN_BYTES};
    struct numeric_record record = {0};
    int64_t begin_ns = samples_now_ns();

    host_pool_run(bench->pool, &job, &record);
    int64_t end_ns = samples_now_ns();
    // So that the sums are needed.
    if (record.loss_lo == 1)
        fprintf(stderr, "host_loss: an odd sum\n");
    return end_ns - begin_ns;
}

static int64_t time_shape(const struct bench *bench, const struct shape *shape)
{
    struct numeric_record record = {0};
    struct device_loss job = {
        .labels = {.values = bench->labels,
                   .type = TALLY_I32,
                   .tokens = shape_tokens(shape),
                   .vocab = shape->vocab,
                   .ignore_index = TALLY_IGNORE_INDEX},
        .logits = bench->logits,
        .type = shape->type,
        .logits_stride = shape->vocab,
        .gradient = shape->gradient ? bench->logits : NULL,
        .gradient_stride = shape->vocab,
    };

    fill(bench, shape->type);
    int64_t begin_ns = samples_now_ns();
    device_host_ops.loss(bench->device, &job, &record, NULL);
    return samples_now_ns() - begin_ns;
}

static void measure(struct bench *bench)
{
    for (int64_t trial = -1; trial < bench->trials; trial++) {
        for (size_t i = 0; i < SHAPE_COUNT; i++) {
            int64_t read_ns = time_read(bench);
            int64_t shape_ns = time_shape(bench, &shapes[i]);
            if (trial < 0) // the first touches the memory
                continue;
            samples_add(&bench->read, read_ns);
            samples_add(&bench->samples[i], shape_ns);
        }
    }
    samples_sort(&bench->read);
    for (size_t i = 0; i < SHAPE_COUNT; i++)
        samples_sort(&bench->samples[i]);
}

static double read_gbs(const struct bench *bench)
{
    return (double)LOGITS_BYTES / (double)samples_percentile(&bench->read, 500);
}

static double shape_gbs(const struct bench *bench, size_t i)
{
    const struct shape *shape = &shapes[i];
    int64_t bytes =
        shape_tokens(shape) * shape->vocab * element_size(shape->type);

    return (double)(shape->gradient ? 2 * bytes : bytes) /
           (double)samples_percentile(&bench->samples[i], 500);
}

static void print_text(const struct bench *bench)
{
    double read = read_gbs(bench);

    printf("# loss on the host device: threads %d, kernels %s\n",
           (int)bench->threads, device_host_isa(bench->device));
    printf("# reading alone: %.2f GB/s\n", read);
    printf("#%9s %5s %7s %7s %8s\n", "kernel", "type", "V", "GB/s", "of read");
    for (size_t i = 0; i < SHAPE_COUNT; i++)
        printf("%10s %5s %7lld %7.2f %8.2f\n", shapes[i].name,
               shapes[i].type_name, (long long)shapes[i].vocab,
               shape_gbs(bench, i), shape_gbs(bench, i) / read);
}

static void print_json(const struct bench *bench)
{
    struct json json = {.out = stdout};

    json_object_open(&json, NULL);
    json_integer(&json, "threads", bench->threads);
    json_string(&json, "isa", device_host_isa(bench->device));
    json_number(&json, "read_gbs", read_gbs(bench), 3);
    json_array_open(&json, "cases");
    for (size_t i = 0; i < SHAPE_COUNT; i++) {
        json_object_open(&json, NULL);
        json_string(&json, "name", shapes[i].name);
        json_integer(&json, "vocab", shapes[i].vocab);
        json_string(&json, "type", shapes[i].type_name);
        json_number(&json, "gbs", shape_gbs(bench, i), 3);
        json_object_close(&json);
    }
    json_array_close(&json);
    json_object_close(&json);
    json_end(&json);
}

static bool parse(int argc, char **argv, struct bench *bench)
{
    static const struct option options[] = {
        {"threads", required_argument, NULL, 't'},
        {"isa", required_argument, NULL, 'i'},
        {"trials", required_argument, NULL, 'n'},
        {"json", no_argument, NULL, 'j'},
        {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 't')
            bench->threads = (int32_t)strtol(optarg, NULL, 10);
        else if (option == 'i')
            bench->isa = optarg;
        else if (option == 'n')
            bench->trials = strtoll(optarg, NULL, 10);
        else if (option == 'j')
            bench->as_json = true;
        else
            return false;
    }
    return optind == argc && bench->threads > 0 && bench->trials > 0 &&
           bench->trials <= TRIALS_MAX;
}

static bool make_room(struct bench *bench)
{
    int64_t tokens_max = 0;

    for (size_t i = 0; i < SHAPE_COUNT; i++) {
        if (shape_tokens(&shapes[i]) > tokens_max)
            tokens_max = shape_tokens(&shapes[i]);
        if (!samples_create(&bench->samples[i], (size_t)bench->trials))
            return false;
    }
    bench->logits = aligned_alloc(4096, (size_t)LOGITS_BYTES);
    bench->labels = calloc((size_t)tokens_max, sizeof(*bench->labels));
    if (bench->logits == NULL || bench->labels == NULL)
        return false;
    for (int64_t i = 0; i < tokens_max; i++)
        bench->labels[i] = (int32_t)(i * 7919 % 32000);
    return samples_create(&bench->read, (size_t)bench->trials * SHAPE_COUNT);
}

static int32_t processor_count(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return 1;
    return (int32_t)CPU_COUNT(&set);
}

int main(int argc, char **argv)
{
    struct bench bench = {
        .threads = processor_count(), .isa = "auto", .trials = TRIALS};

    if (!parse(argc, argv, &bench)) {
        fprintf(stderr, "usage: host_loss [--threads N] [--isa ISA] "
                        "[--trials N] [--json]\n");
        return 2;
    }
    struct device_params params = {bench.threads, bench.isa};
    if (!make_room(&bench)) {
        fprintf(stderr, "host_loss: no memory\n");
        return EXIT_FAILURE;
    }
    if (device_host_ops.open(&params, &bench.device) != TALLY_OK ||
        host_pool_open(bench.threads, &bench.pool) != TALLY_OK) {
        fprintf(stderr, "host_loss: %s\n", core_error_text());
        return EXIT_FAILURE;
    }
    measure(&bench);
    if (bench.as_json)
        print_json(&bench);
    else
        print_text(&bench);
    host_pool_close(bench.pool);
    device_host_ops.close(bench.device);
    samples_free(&bench.read);
    for (size_t i = 0; i < SHAPE_COUNT; i++)
        samples_free(&bench.samples[i]);
    free(bench.logits);
    free(bench.labels);
    return EXIT_SUCCESS;
}
