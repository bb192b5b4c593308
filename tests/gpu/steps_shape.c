// SPDX-License-Identifier: BSD-3-Clause
// Cases of gpu_steps: label smoothing, z-loss, soft-cap and temperature, each
// in a channel of its own and all in one, as on the host.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "device/host_element.h"
#include "gpu/steps_epoch.h"

#define CHANNELS 6
#define ELEMENTS (TOKENS * VOCAB)

static const tally_dtype_t types[] = {TALLY_F32, TALLY_BF16, TALLY_F16};
#define TYPES 3 // a micro-batch each

static const double factor = 64;

// Of one channel in one type; addresses are the step's device's.
struct work {
    void *labels, *logits, *gradient, *nll, *factor;
};

// What comes of it, on the host.
struct found {
    float nll[TOKENS];
    float gradient[ELEMENTS];
};

static tally_step_t *shaped_step(const struct rank *rank, tally_order_t order,
                                 tally_device_t device)
{
    tally_step_params_t params = TALLY_INIT(tally_step_params_t);
    tally_channel_t channels[CHANNELS];
    tally_step_t *step;

    for (int k = 0; k < CHANNELS; k++) {
        channels[k] = (tally_channel_t)TALLY_INIT(tally_channel_t);
        channels[k].vocab = VOCAB;
    }
    channels[1].label_smoothing = 0.1;
    channels[2].z_loss = 1e-2;
    channels[3].soft_cap = 3;
    channels[4].temperature = 0.7;
    channels[5].label_smoothing = 0.2;
    channels[5].z_loss = 1e-3;
    channels[5].soft_cap = 20;
    channels[5].temperature = 1.5;
    params.order = order;
    params.convention = TALLY_GRADIENT_AVERAGE;
    params.channels = channels;
    params.channel_count = CHANNELS;
    params.device = device;
    EXPECT(tally_step_create(rank->group, &params, &step) == TALLY_OK);
    return step;
}

static void begin_shaped(tally_step_t *step, tally_order_t order,
                         const struct work work[TYPES], tally_stream_t stream)
{
    const tally_labels_t labels = labels_at(work[0].labels, TOKENS);

    EXPECT(tally_step_begin(step, TYPES, stream) == TALLY_OK);
    for (uint32_t k = 0; k < CHANNELS && order == TALLY_COUNT_FIRST; k++)
        for (int t = 0; t < TYPES; t++)
            EXPECT(tally_step_count(step, k, &labels, stream) == TALLY_OK);
    if (order == TALLY_COUNT_FIRST)
        EXPECT(tally_step_reduce(step, stream) == TALLY_OK);
}

static void enqueue_loss(tally_step_t *step, uint32_t k, tally_dtype_t type,
                         const struct work *work, tally_stream_t stream)
{
    const tally_labels_t labels = labels_at(work->labels, TOKENS);
    tally_logits_t logits = TALLY_INIT(tally_logits_t);
    tally_loss_outputs_t outputs = TALLY_INIT(tally_loss_outputs_t);

    logits.type = type;
    logits.values = work->logits;
    outputs.gradient = work->gradient;
    outputs.nll = work->nll;
    outputs.grad_scale = work->factor;
    EXPECT(tally_step_loss(step, k, &logits, &labels, &outputs, stream) ==
           TALLY_OK);
}

static void enqueue_none(tally_step_t *step, uint32_t k, tally_stream_t stream)
{
    const tally_labels_t labels = labels_at(NULL, 0);
    tally_logits_t logits = TALLY_INIT(tally_logits_t);

    logits.type = TALLY_F32;
    EXPECT(tally_step_loss(step, k, &logits, &labels, NULL, stream) ==
           TALLY_OK);
}

static void compare(tally_dtype_t type, int channel, const struct found *host,
                    const struct found *device)
{
    const double digits = type == TALLY_F32    ? 4e-6
                          : type == TALLY_BF16 ? 0x1p-7
                                               : 0x1p-10;

    for (int i = 0; i < TOKENS; i++)
        if (!(fabs((double)(host->nll[i] - device->nll[i])) <=
              1e-5 + fabs((double)host->nll[i]) * 1e-6)) {
            fprintf(stderr, "type %d, channel %d, token %d: nll %g, not %g\n",
                    (int)type, channel, i, (double)device->nll[i],
                    (double)host->nll[i]);
            EXPECT(false);
        }
    for (int i = 0; i < ELEMENTS; i++)
        if (!(fabs((double)(host->gradient[i] - device->gradient[i])) <=
              factor * 2e-6 + fabs((double)host->gradient[i]) * digits)) {
            fprintf(stderr, "type %d, channel %d, element %d: %g, not %g\n",
                    (int)type, channel, i, (double)device->gradient[i],
                    (double)host->gradient[i]);
            EXPECT(false);
        }
}

static void read_gradient(tally_dtype_t type, const char *bytes,
                          struct found *found)
{
    for (int i = 0; i < ELEMENTS; i++)
        found->gradient[i] = host_element_load(host_row_type(type), bytes, i);
}

static void shaped_as_rank(struct processes_member *member, const void *order)
{
    const tally_order_t of = *(const tally_order_t *)order;
    static char logits[TYPES][ELEMENTS * 4], gradient[TYPES][ELEMENTS * 4];
    static struct found found, wanted;
    static int64_t labels[TOKENS];
    struct work host[TYPES], device[TYPES];
    float multiplied = (float)factor;
    struct rank rank;
    tally_channel_result_t totals[2][CHANNELS];

    rank_open(&rank, member);
    for (int i = 0; i < TOKENS; i++)
        labels[i] = i == 3 ? TALLY_IGNORE_INDEX : i * 37 + member->rank;
    for (int t = 0; t < TYPES; t++) {
        const enum host_row_type type = host_row_type(types[t]);
        const size_t bytes = (size_t)(ELEMENTS * host_element_size(type));
        for (int i = 0; i < ELEMENTS; i++)
            host_element_store(type, logits[t], i,
                               (float)((i * 7919 + member->rank) % 4001) / 500 -
                                   4);
        host[t] = (struct work){labels, logits[t], gradient[t], wanted.nll,
                                &multiplied};
        device[t] = (struct work){
            gpu_take(sizeof(labels), labels), gpu_take(bytes, logits[t]),
            gpu_take(bytes, NULL), gpu_take(sizeof(found.nll), NULL),
            gpu_take(sizeof(multiplied), &multiplied)};
    }
    tally_step_t *on_host = shaped_step(&rank, of, TALLY_DEVICE_HOST);
    tally_step_t *step = shaped_step(&rank, of, TALLY_DEVICE_CUDA);
    begin_shaped(on_host, of, host, NULL);
    begin_shaped(step, of, device, rank.stream);
    for (int k = 0; k < CHANNELS; k++)
        for (int t = 0; t < TYPES; t++) {
            enqueue_loss(on_host, (uint32_t)k, types[t], &host[t], NULL);
            enqueue_loss(step, (uint32_t)k, types[t], &device[t], rank.stream);
            gpu_synchronize(rank.stream);
            read_gradient(types[t], gradient[t], &wanted);
            gpu_get(found.nll, device[t].nll, sizeof(found.nll));
            gpu_get(gradient[t], device[t].gradient,
                    (size_t)(ELEMENTS *
                             host_element_size(host_row_type(types[t]))));
            read_gradient(types[t], gradient[t], &found);
            compare(types[t], k, &wanted, &found);
        }
    for (int d = 0; d < 2; d++) {
        tally_step_t *one = d == 0 ? on_host : step;
        const tally_stream_t stream = d == 0 ? NULL : rank.stream;
        tally_result_t result = TALLY_INIT(tally_result_t);
        if (of == TALLY_SCALE_LATE)
            EXPECT(tally_step_reduce(one, stream) == TALLY_OK);
        EXPECT(tally_step_end(one, stream) == TALLY_OK);
        for (int k = 0; k < CHANNELS; k++)
            totals[d][k] =
                (tally_channel_result_t)TALLY_INIT(tally_channel_result_t);
        result.channels = totals[d];
        result.channel_capacity = CHANNELS;
        EXPECT(tally_step_result(one, 1, TALLY_RESULT_WAIT, &result) ==
               TALLY_OK);
    }
    for (int k = 0; k < CHANNELS; k++) {
        EXPECT(totals[0][k].count == totals[1][k].count);
        EXPECT(totals[1][k].nonfinite == 0);
        EXPECT(fabs(totals[0][k].loss_sum - totals[1][k].loss_sum) <=
               1e-5 * (double)totals[0][k].count);
        // Each has a loss of its own.
        EXPECT(k == 0 ||
               fabs(totals[1][k].loss_sum - totals[1][0].loss_sum) > 0.1);
    }
    EXPECT(tally_step_free(step) == TALLY_OK);
    EXPECT(tally_step_free(on_host) == TALLY_OK);
    rank_close(&rank);
}

// Two steps on two streams, each with logits of its own: what comes of one on
// both is what came of it alone.
static void of_two_steps(struct processes_member *member, const void *unused)
{
    enum { ROUNDS = 10 };
    static float logits[2][ELEMENTS], alone[2][ELEMENTS], both[ELEMENTS];
    static int64_t labels[TOKENS];
    struct rank rank;
    struct work work[2];
    tally_step_t *steps[2];
    tally_stream_t streams[2];

    (void)unused;
    rank_open(&rank, member);
    for (int i = 0; i < TOKENS; i++)
        labels[i] = i * 37;
    for (int s = 0; s < 2; s++) {
        for (int i = 0; i < ELEMENTS; i++)
            logits[s][i] = (float)((i * 7919 + s) % 4001) / 500 + 9 * (float)s;
        work[s] = (struct work){gpu_take(sizeof(labels), labels),
                                gpu_take(sizeof(logits[s]), logits[s]),
                                gpu_take(sizeof(logits[s]), NULL), NULL, NULL};
        steps[s] = shaped_step(&rank, TALLY_SCALE_LATE, TALLY_DEVICE_CUDA);
        streams[s] = s == 0 ? rank.stream : gpu_stream();
        EXPECT(tally_step_begin(steps[s], 1 + ROUNDS, streams[s]) == TALLY_OK);
        enqueue_loss(steps[s], 5, TALLY_F32, &work[s], streams[s]);
        gpu_synchronize(streams[s]);
        gpu_get(alone[s], work[s].gradient, sizeof(alone[s]));
    }
    EXPECT(memcmp(alone[0], alone[1], sizeof(both)) != 0);
    for (int round = 0; round < ROUNDS; round++) {
        for (int s = 0; s < 2; s++)
            enqueue_loss(steps[s], 5, TALLY_F32, &work[s], streams[s]);
        for (int s = 0; s < 2; s++) {
            gpu_synchronize(streams[s]);
            gpu_get(both, work[s].gradient, sizeof(both));
            EXPECT(memcmp(both, alone[s], sizeof(both)) == 0);
        }
    }
    for (int s = 0; s < 2; s++) {
        for (uint32_t k = 0; k < 5; k++)
            for (int i = 0; i <= ROUNDS; i++)
                enqueue_none(steps[s], k, streams[s]);
        EXPECT(tally_step_reduce(steps[s], streams[s]) == TALLY_OK);
        EXPECT(tally_step_end(steps[s], streams[s]) == TALLY_OK);
        EXPECT(tally_step_free(steps[s]) == TALLY_OK);
    }
    rank_close(&rank);
}

void shaped_losses_of_two_streams_are_apart(void)
{
    must_return(1, of_two_steps, NULL);
}

void shaped_losses_are_as_on_the_host(void)
{
    must_return(2, shaped_as_rank, &count_first);
    must_return(2, shaped_as_rank, &scale_late);
}
