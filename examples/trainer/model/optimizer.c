// SPDX-License-Identifier: BSD-3-Clause
// See optimizer.h.
#include "optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../fail.h"

static void sgd_apply(struct optimizer *optimizer, float *parameters,
                      const double *gradient)
{
    for (size_t i = 0; i < optimizer->count; i++)
        parameters[i] -= (float)(optimizer->learning_rate * gradient[i]);
}

static void adam_apply(struct optimizer *optimizer, float *parameters,
                       const double *gradient)
{
    const float decay[2] = {0.9f, 0.99f};
    const float epsilon = 1e-8f;
    double correction[2];
    float *first = optimizer->moments[0];
    float *second = optimizer->moments[1];

    for (int i = 0; i < 2; i++)
        correction[i] = 1 - pow((double)decay[i], (double)optimizer->steps);
    float rate =
        (float)(optimizer->learning_rate * sqrt(correction[1]) / correction[0]);
    for (size_t i = 0; i < optimizer->count; i++) {
        float g = (float)gradient[i];
        first[i] += (1 - decay[0]) * (g - first[i]);
        second[i] += (1 - decay[1]) * (g * g - second[i]);
        parameters[i] -= rate * first[i] / (sqrtf(second[i]) + epsilon);
    }
}

const struct optimizer_rule optimizer_rules[] = {
    {.name = "adam", .learning_rate = 0.003, .apply = adam_apply},
    {.name = "sgd", .learning_rate = 0.3, .apply = sgd_apply},
    {.name = NULL},
};

const struct optimizer_rule *optimizer_rule_find(const char *name)
{
    const struct optimizer_rule *rule = optimizer_rules;

    while (rule->name != NULL && strcmp(rule->name, name) != 0)
        rule++;
    return rule->name != NULL ? rule : NULL;
}

bool optimizer_create(const struct optimizer_rule *rule, double learning_rate,
                      size_t count, struct optimizer *out)
{
    struct optimizer made = {
        .rule = rule, .learning_rate = learning_rate, .count = count};

    for (int i = 0; i < 2; i++)
        made.moments[i] = calloc(count, sizeof(float));
    if (made.moments[0] == NULL || made.moments[1] == NULL) {
        optimizer_free(&made);
        return trainer_fail("no memory for the moments of %zu parameters",
                            count);
    }
    *out = made;
    return true;
}

void optimizer_free(struct optimizer *optimizer)
{
    for (int i = 0; i < 2; i++)
        free(optimizer->moments[i]);
}

void optimizer_apply(struct optimizer *optimizer, float *parameters,
                     const double *gradient)
{
    optimizer->steps++;
    optimizer->rule->apply(optimizer, parameters, gradient);
}
