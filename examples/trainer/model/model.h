// SPDX-License-Identifier: BSD-3-Clause
// A byte-level language model after Bengio et al. 2003: the embeddings of the
// last MODEL_CONTEXT bytes, one hidden layer with tanh, logits over 256 bytes.
// Float32; forward and backward by hand. It has no loss: that is Tally's.
//
// The logits of a token depend on its context and the parameters alone, to the
// bit, whatever else is in the micro-batch.
#ifndef TRAINER_MODEL_H
#define TRAINER_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_VOCAB 256
#define MODEL_CONTEXT 16 // bytes
#define MODEL_EMBEDDING 8
#define MODEL_INPUTS (MODEL_CONTEXT * MODEL_EMBEDDING)
#define MODEL_HIDDEN 96

// All parameters, and likewise all gradients: nothing but floats, so that they
// are also one array of MODEL_PARAMETERS.
struct model {
    float embedding[MODEL_VOCAB][MODEL_EMBEDDING];
    float hidden_weight[MODEL_INPUTS][MODEL_HIDDEN];
    float hidden_bias[MODEL_HIDDEN];
    float logit_weight[MODEL_HIDDEN][MODEL_VOCAB];
    float logit_bias[MODEL_VOCAB];
};

#define MODEL_PARAMETERS (sizeof(struct model) / sizeof(float))

struct micro_batch;

// What the forward leaves for the loss and the backward, [tokens_max] each.
struct activations {
    float (*hidden)[MODEL_HIDDEN];
    float (*logits)[MODEL_VOCAB]; // the loss turns them into their gradient
};

bool activations_create(int64_t tokens_max, struct activations *out);
void activations_free(struct activations *activations);

// Random parameters from the seed.
void model_initialise(struct model *model, uint64_t seed);

// Computes hidden and logits of the tokens that have a label. Rows of ignored
// tokens are left as they are: the loss does not read them.
void model_forward(const struct model *model, const struct micro_batch *micro,
                   struct activations *activations);

// Adds d loss / d parameters to *gradient. activations->logits holds
// d loss / d logits now; rows of ignored tokens are not read.
void model_backward(const struct model *model, const struct micro_batch *micro,
                    const struct activations *activations,
                    struct model *gradient);

// The mean loss over the tokens that have a label, in float64, without Tally;
// for text that is not trained on. NaN if there is none.
double model_evaluate(const struct model *model,
                      const struct micro_batch *micro,
                      struct activations *activations);

#endif
