// SPDX-License-Identifier: BSD-3-Clause
// See model.h.
#include "model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../fail.h"
#include "batch.h"
#include "random.h"

// Partial sums of a dot product: enough for two vector registers.
#define LANES 16

_Static_assert(sizeof(struct model) % sizeof(float) == 0, "nothing but floats");
_Static_assert(MODEL_HIDDEN % LANES == 0, "whole vectors");
_Static_assert(MODEL_VOCAB % LANES == 0, "whole vectors");

bool activations_create(int64_t tokens_max, struct activations *out)
{
    struct activations made;

    made.hidden = malloc((size_t)tokens_max * sizeof(*made.hidden));
    made.logits = malloc((size_t)tokens_max * sizeof(*made.logits));
    if (made.hidden == NULL || made.logits == NULL) {
        activations_free(&made);
        return trainer_fail("no memory for the activations of %lld tokens",
                            (long long)tokens_max);
    }
    *out = made;
    return true;
}

void activations_free(struct activations *activations)
{
    free(activations->logits);
    free(activations->hidden);
}

static void uniform(float *values, size_t bytes, float width, uint64_t *state)
{
    for (size_t i = 0; i < bytes / sizeof(*values); i++)
        values[i] = width * random_symmetric(state);
}

void model_initialise(struct model *model, uint64_t seed)
{
    uint64_t state = seed ^ 0x6d6f64656c; // other numbers than the batches'

    memset(model, 0, sizeof(*model));
    uniform(model->embedding[0], sizeof(model->embedding), 1, &state);
    uniform(model->hidden_weight[0], sizeof(model->hidden_weight),
            sqrtf(3.0f / MODEL_INPUTS), &state);
    uniform(model->logit_weight[0], sizeof(model->logit_weight),
            sqrtf(1.0f / MODEL_HIDDEN), &state);
}

// y += a * x
static inline void add_scaled(float *restrict y, float a,
                              const float *restrict x, int count)
{
    for (int i = 0; i < count; i++)
        y[i] += a * x[i];
}

static inline float dot(const float *restrict x, const float *restrict y,
                        int count)
{
    float partial[LANES] = {0};
    float sum = 0;

    for (int i = 0; i < count; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            partial[lane] += x[i + lane] * y[i + lane];
    for (int lane = 0; lane < LANES; lane++)
        sum += partial[lane];
    return sum;
}

static void embed(const struct model *model,
                  const uint8_t context[MODEL_CONTEXT],
                  float inputs[MODEL_INPUTS])
{
    for (size_t i = 0; i < MODEL_CONTEXT; i++)
        memcpy(&inputs[i * MODEL_EMBEDDING], model->embedding[context[i]],
               sizeof(model->embedding[0]));
}

static void token_forward(const struct model *model,
                          const uint8_t context[MODEL_CONTEXT],
                          float hidden[MODEL_HIDDEN], float logits[MODEL_VOCAB])
{
    float inputs[MODEL_INPUTS];

    embed(model, context, inputs);
    memcpy(hidden, model->hidden_bias, sizeof(model->hidden_bias));
    for (int i = 0; i < MODEL_INPUTS; i++)
        add_scaled(hidden, inputs[i], model->hidden_weight[i], MODEL_HIDDEN);
    for (int i = 0; i < MODEL_HIDDEN; i++)
        hidden[i] = tanhf(hidden[i]);
    memcpy(logits, model->logit_bias, sizeof(model->logit_bias));
    for (int i = 0; i < MODEL_HIDDEN; i++)
        add_scaled(logits, hidden[i], model->logit_weight[i], MODEL_VOCAB);
}

static void token_backward(const struct model *model,
                           const uint8_t context[MODEL_CONTEXT],
                           const float hidden[MODEL_HIDDEN],
                           const float logits_gradient[MODEL_VOCAB],
                           struct model *gradient)
{
    float inputs[MODEL_INPUTS];
    float before_tanh[MODEL_HIDDEN]; // d loss / d (argument of tanh)

    add_scaled(gradient->logit_bias, 1, logits_gradient, MODEL_VOCAB);
    for (int i = 0; i < MODEL_HIDDEN; i++) {
        add_scaled(gradient->logit_weight[i], hidden[i], logits_gradient,
                   MODEL_VOCAB);
        before_tanh[i] =
            dot(model->logit_weight[i], logits_gradient, MODEL_VOCAB) *
            (1 - hidden[i] * hidden[i]);
    }
    embed(model, context, inputs);
    add_scaled(gradient->hidden_bias, 1, before_tanh, MODEL_HIDDEN);
    for (int i = 0; i < MODEL_INPUTS; i++) {
        add_scaled(gradient->hidden_weight[i], inputs[i], before_tanh,
                   MODEL_HIDDEN);
        gradient
            ->embedding[context[i / MODEL_EMBEDDING]][i % MODEL_EMBEDDING] +=
            dot(model->hidden_weight[i], before_tanh, MODEL_HIDDEN);
    }
}

void model_forward(const struct model *model, const struct micro_batch *micro,
                   struct activations *activations)
{
    for (int64_t t = 0; t < micro->tokens; t++)
        if (micro->labels[t] != BATCH_IGNORED)
            token_forward(model, micro->contexts[t], activations->hidden[t],
                          activations->logits[t]);
}

void model_backward(const struct model *model, const struct micro_batch *micro,
                    const struct activations *activations,
                    struct model *gradient)
{
    for (int64_t t = 0; t < micro->tokens; t++)
        if (micro->labels[t] != BATCH_IGNORED)
            token_backward(model, micro->contexts[t], activations->hidden[t],
                           activations->logits[t], gradient);
}

static double token_loss(const float logits[MODEL_VOCAB], int32_t label)
{
    double sum = 0;

    for (int i = 0; i < MODEL_VOCAB; i++)
        sum += exp((double)logits[i] - (double)logits[label]);
    return log(sum);
}

double model_evaluate(const struct model *model,
                      const struct micro_batch *micro,
                      struct activations *activations)
{
    double sum = 0;
    int64_t count = 0;

    model_forward(model, micro, activations);
    for (int64_t t = 0; t < micro->tokens; t++) {
        if (micro->labels[t] == BATCH_IGNORED)
            continue;
        sum += token_loss(activations->logits[t], micro->labels[t]);
        count++;
    }
    return sum / (double)count;
}
