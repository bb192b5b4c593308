// SPDX-License-Identifier: BSD-3-Clause
// Cases of gpu_steps: losses of logits whose columns are spread over shards are
// those of whole rows, also from a graph.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "device/host_element.h"
#include "gpu/steps_epoch.h"

#define CHANNELS 2
#define SHARDS 2
#define ELEMENTS (TOKENS * VOCAB)

static const int64_t ends[SHARDS + 1] = {0, 700, VOCAB};

// One micro-batch for all: whole rows, then each shard's columns of them.
#define MICRO_BATCHES (1 + SHARDS)

// On the GPU, of a channel: gradients of whole rows, and of each shard's
// columns by themselves.
struct arrays_of_channel {
    void *gradient, *shard_gradients[SHARDS];
    void *nll, *shard_nll[SHARDS];
};

struct work {
    tally_dtype_t type;
    enum host_row_type element;
    void *labels, *logits;
    tally_row_part_t *parts;
    struct arrays_of_channel of[CHANNELS];
};

static struct work take_work(tally_dtype_t type)
{
    static char logits[ELEMENTS * 4];
    struct work work = {.type = type, .element = host_row_type(type)};
    const size_t bytes = (size_t)host_element_size(work.element);
    int64_t labels[TOKENS];

    for (int i = 0; i < ELEMENTS; i++)
        host_element_store(work.element, logits, i,
                           (float)(i * 7919 % 4001) / 500 - 4);
    for (int i = 0; i < TOKENS; i++) // both shards have some
        labels[i] = i == 3 ? TALLY_IGNORE_INDEX : 649 + i * 17;
    work.labels = gpu_take(sizeof(labels), labels);
    work.logits = gpu_take(ELEMENTS * bytes, logits);
    work.parts = gpu_take(SHARDS * TOKENS * sizeof(*work.parts), NULL);
    for (int k = 0; k < CHANNELS; k++) {
        struct arrays_of_channel *of = &work.of[k];
        of->gradient = gpu_take(ELEMENTS * bytes, NULL);
        of->nll = gpu_take(TOKENS * sizeof(float), NULL);
        for (int r = 0; r < SHARDS; r++) {
            of->shard_gradients[r] = gpu_take(ELEMENTS * bytes, NULL);
            of->shard_nll[r] = gpu_take(TOKENS * sizeof(float), NULL);
        }
    }
    return work;
}

static tally_step_t *create(const struct rank *rank)
{
    tally_step_params_t params = TALLY_INIT(tally_step_params_t);
    tally_channel_t channels[CHANNELS];
    tally_step_t *step;

    for (int k = 0; k < CHANNELS; k++) {
        channels[k] = (tally_channel_t)TALLY_INIT(tally_channel_t);
        channels[k].vocab = VOCAB;
    }
    channels[1].label_smoothing = 0.1;
    channels[1].z_loss = 1e-3;
    channels[1].soft_cap = 20;
    channels[1].temperature = 1.5;
    params.order = TALLY_COUNT_FIRST;
    params.convention = TALLY_GRADIENT_AVERAGE;
    params.channels = channels;
    params.channel_count = CHANNELS;
    params.device = TALLY_DEVICE_CUDA;
    EXPECT(tally_step_create(rank->group, &params, &step) == TALLY_OK);
    return step;
}

static tally_columns_t columns_of(int shard)
{
    tally_columns_t columns = TALLY_INIT(tally_columns_t);

    columns.shards = SHARDS;
    columns.begin = ends[shard];
    columns.width = ends[shard + 1] - ends[shard];
    return columns;
}

static tally_logits_t logits_of(const struct work *work, int64_t begin)
{
    tally_logits_t logits = TALLY_INIT(tally_logits_t);

    logits.type = work->type;
    logits.values =
        (char *)work->logits + begin * host_element_size(work->element);
    logits.row_stride = VOCAB;
    return logits;
}

static void enqueue_part(tally_step_t *step, uint32_t k, int shard,
                         const struct work *work, tally_stream_t stream)
{
    const tally_labels_t labels = labels_at(work->labels, TOKENS);
    const tally_columns_t columns = columns_of(shard);
    const tally_logits_t logits = logits_of(work, columns.begin);

    EXPECT(tally_step_loss_part(step, k, &logits, &labels, &columns,
                                work->parts + shard * TOKENS,
                                stream) == TALLY_OK);
}

// Each shard with parts of its own: what the one before has left is of rows.
static void enqueue_columns(tally_step_t *step, uint32_t k,
                            const struct work *work, tally_stream_t stream)
{
    const tally_labels_t labels = labels_at(work->labels, TOKENS);

    for (int r = 0; r < SHARDS; r++) {
        const tally_columns_t columns = columns_of(r);
        const tally_logits_t logits = logits_of(work, columns.begin);
        tally_loss_outputs_t outputs = TALLY_INIT(tally_loss_outputs_t);
        outputs.gradient = work->of[k].shard_gradients[r];
        outputs.nll = work->of[k].shard_nll[r];
        for (int s = 0; s < SHARDS; s++)
            enqueue_part(step, k, s, work, stream);
        EXPECT(tally_step_loss_columns(step, k, &logits, &labels, &columns,
                                       work->parts, &outputs,
                                       stream) == TALLY_OK);
    }
}

static void enqueue_all(tally_step_t *step, const struct work *work,
                        tally_stream_t stream)
{
    const tally_labels_t labels = labels_at(work->labels, TOKENS);
    const tally_logits_t logits = logits_of(work, 0);

    EXPECT(tally_step_begin(step, MICRO_BATCHES, stream) == TALLY_OK);
    for (uint32_t k = 0; k < CHANNELS; k++)
        for (int m = 0; m < MICRO_BATCHES; m++)
            EXPECT(tally_step_count(step, k, &labels, stream) == TALLY_OK);
    EXPECT(tally_step_reduce(step, stream) == TALLY_OK);
    for (uint32_t k = 0; k < CHANNELS; k++) {
        tally_loss_outputs_t outputs = TALLY_INIT(tally_loss_outputs_t);
        outputs.gradient = work->of[k].gradient;
        outputs.nll = work->of[k].nll;
        EXPECT(tally_step_loss(step, k, &logits, &labels, &outputs, stream) ==
               TALLY_OK);
        enqueue_columns(step, k, work, stream);
    }
    EXPECT(tally_step_end(step, stream) == TALLY_OK);
}

static bool alike(float a, float b, double digits)
{
    return fabs((double)a - (double)b) <= fabs((double)a) * digits + 2e-8;
}

// Gradients within a unit in the last place, or two of float32.
static void compare(const struct work *work, int k)
{
    static char whole[ELEMENTS * 4], columns[ELEMENTS * 4];
    const struct arrays_of_channel *of = &work->of[k];
    const size_t bytes = (size_t)(ELEMENTS * host_element_size(work->element));
    const double digits = work->type == TALLY_F32    ? 0x1p-21
                          : work->type == TALLY_BF16 ? 0x1p-7
                                                     : 0x1p-10;
    float nll[TOKENS], own[TOKENS];

    gpu_get(whole, of->gradient, bytes);
    gpu_get(nll, of->nll, sizeof(nll));
    for (int r = 0; r < SHARDS; r++) {
        const int64_t width = ends[r + 1] - ends[r];
        gpu_get(columns, of->shard_gradients[r], bytes);
        gpu_get(own, of->shard_nll[r], sizeof(own));
        for (int i = 0; i < TOKENS; i++) {
            EXPECT(alike(nll[i], own[i], 1e-6));
            EXPECT((nll[i] == 0) == (i == 3));
            for (int64_t j = 0; j < width; j++)
                EXPECT(alike(
                    host_element_load(work->element, whole,
                                      i * VOCAB + ends[r] + j),
                    host_element_load(work->element, columns, i * width + j),
                    digits));
        }
    }
}

static void expect_alike(tally_step_t *step, const struct work *work,
                         tally_stream_t stream)
{
    tally_channel_result_t totals[CHANNELS];
    tally_result_t result = TALLY_INIT(tally_result_t);

    for (int k = 0; k < CHANNELS; k++)
        totals[k] = (tally_channel_result_t)TALLY_INIT(tally_channel_result_t);
    result.channels = totals;
    result.channel_capacity = CHANNELS;
    EXPECT(tally_step_result(step, 0, TALLY_RESULT_WAIT, &result) == TALLY_OK);
    gpu_synchronize(stream);
    for (int k = 0; k < CHANNELS; k++) {
        float nll[TOKENS];
        double sum = 0;
        gpu_get(nll, work->of[k].nll, sizeof(nll));
        for (int i = 0; i < TOKENS; i++)
            sum += (double)nll[i];
        EXPECT(totals[k].count == MICRO_BATCHES * (TOKENS - 1));
        EXPECT(fabs(totals[k].loss_sum - MICRO_BATCHES * sum) <= 1e-6 * sum);
        compare(work, k);
    }
}

static void as_whole_rows(struct processes_member *member, const void *unused)
{
    static const tally_dtype_t types[] = {TALLY_F32, TALLY_BF16, TALLY_F16};
    struct rank rank;

    (void)unused;
    rank_open(&rank, member);
    for (int t = 0; t < 3; t++) {
        const struct work work = take_work(types[t]);
        tally_step_t *step = create(&rank);
        enqueue_all(step, &work, rank.stream);
        expect_alike(step, &work, rank.stream);
        if (has_graphs()) {
            gpu_capture_begin(rank.stream);
            enqueue_all(step, &work, rank.stream);
            void *graph = gpu_capture_end(rank.stream);
            for (int i = 0; i < 3; i++)
                gpu_replay(graph, rank.stream);
            expect_alike(step, &work, rank.stream);
            gpu_synchronize(rank.stream);
            gpu_forget(graph);
        }
        EXPECT(tally_step_free(step) == TALLY_OK);
    }
    rank_close(&rank);
}

void columns_of_shards_are_those_of_whole_rows(void)
{
    must_return(1, as_whole_rows, NULL);
}
