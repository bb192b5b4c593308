// SPDX-License-Identifier: BSD-3-Clause
// From the gradient to the next parameters: SGD, or Adam (Kingma and Ba 2015).
#ifndef TRAINER_OPTIMIZER_H
#define TRAINER_OPTIMIZER_H

#include <stdbool.h>
#include <stddef.h>

struct optimizer;

// A rule, as named on the command line; the table ends with a NULL name.
struct optimizer_rule {
    const char *name;
    double learning_rate; // where none was asked for
    void (*apply)(struct optimizer *optimizer, float *parameters,
                  const double *gradient);
};

extern const struct optimizer_rule optimizer_rules[];

// NULL if there is no rule of that name.
const struct optimizer_rule *optimizer_rule_find(const char *name);

struct optimizer {
    const struct optimizer_rule *rule;
    double learning_rate;
    size_t count;      // of parameters
    long steps;        // applied so far
    float *moments[2]; // [count] each: of the gradient and of its square
};

bool optimizer_create(const struct optimizer_rule *rule, double learning_rate,
                      size_t count, struct optimizer *out);
void optimizer_free(struct optimizer *optimizer);

// parameters and gradient: [count].
void optimizer_apply(struct optimizer *optimizer, float *parameters,
                     const double *gradient);

#endif
