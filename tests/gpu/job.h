// SPDX-License-Identifier: BSD-3-Clause
// A micro-batch for the kernels, the ways to run it, and what must come out,
// computed in long double.
#ifndef GPU_JOB_H
#define GPU_JOB_H

#include <stdio.h>

#include <vector>

#include "gpu/machine.h"
#include "harness/random.h"

#define JOB_IGNORE (-100)

// Ends the test program's current test with a message.
#define CHECK(condition, ...)                                                  \
    do {                                                                       \
        if (!(condition)) {                                                    \
            test_failed(__FILE__, __LINE__);                                   \
            printf(__VA_ARGS__);                                               \
            printf("\n");                                                      \
            return;                                                            \
        }                                                                      \
    } while (0)

void test_failed(const char *file, int line);
bool test_has_failed(); // the current one

struct test {
    const char *name; // a sentence
    void (*run)();
};

struct batch {
    enum kernel_element type = KERNEL_BF16;
    bool wide = true; // labels
    int64_t vocab, tokens;
    int64_t stride, gradient_stride;   // elements
    int shift = 0, gradient_shift = 0; // bytes before the first element
    int64_t ignore_index = JOB_IGNORE;
    std::vector<int64_t> labels;
    std::vector<float> weights; // empty: none
    std::vector<float> logits;  // [tokens][vocab], representable
    bool has_scale = false, has_grad_scale = false;
    float scale = 1, grad_scale = 1;
    bool shaped = false;
    struct kernel_shaping shaping = {1, 0, 0, 0};

    // Random logits from -8 to 8 and labels that count.
    batch(enum kernel_element type, int64_t vocab, int64_t tokens,
          uint64_t seed);
    float &logit(int64_t token, int64_t j)
    {
        return logits[token * vocab + j];
    }
    void set(int64_t token, int64_t j, float x); // rounded to the type
};

enum way {
    WAY_LOSS,    // loss alone
    WAY_FUSED,   // loss_grad
    WAY_TWO,     // loss, then backward
    WAY_PARALLEL // three ranks of a vocabulary
};

struct how {
    enum way way = WAY_LOSS;
    bool in_place = false;
    int64_t cluster = 0;  // of loss, which runs then; 0: the launcher's choice
    int64_t singles = -1; // of loss_rows, the same; -1: the launcher's choice
    uint64_t seed = 1;
    bool without_nll = false;
    bool without_record = false;
    bool counting_alone = false; // the other rows must not be read
};

struct outcome {
    struct numeric_record record;
    std::vector<float> nll;
    std::vector<float> gradient; // [tokens][vocab]; empty: none
    std::vector<uint32_t> bits;  // of the same
    std::vector<char> parts;     // bytes: of rows, of ranks' shares of rows
    bool untouched = true;       // all that is not an output
};

bool batch_fits_fused(const struct batch &batch);
bool batch_fits_rows(const struct batch &batch);
struct outcome batch_run(const struct batch &batch, const struct how &how);
// The forward pass, as the library launches it.
void loss_run(enum kernel_element type, bool shaped,
              const struct kernel_job &job, uint64_t seed);
// Bytes of nll and gradient, and records, are the same.
bool outcome_equal(const struct outcome &a, const struct outcome &b);

struct accuracy {
    int64_t elements = 0, exact = 0; // correctly rounded
    double worst_ulp = 0;            // beyond correct rounding, in ulp
    long double worst_loss = 0;      // error / (2e-6 + 2^-22 nll)
    long double worst_sum = 0;       // of a row's gradients, of the factor
};

// Compares all tokens, whose logits must be finite; fails the test.
void batch_check(const struct batch &batch, const struct outcome &outcome,
                 struct accuracy *accuracy = NULL);

// The value as stored in that type, to nearest even.
float element_round(enum kernel_element type, long double x);
void element_store(enum kernel_element type, float x, char *at);

#endif
