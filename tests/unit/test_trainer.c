// SPDX-License-Identifier: BSD-3-Clause
// Tests of the example trainer: its text, batches and model. Its optimizer is
// in test_trainer_optimizer.c, how its ranks sum gradients in
// test_trainer_sum.c, its curves and options in test_trainer_curve.c.
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/model/batch.h"
#include "trainer/model/model.h"
#include "trainer/model/random.h"
#include "trainer/model/text.h"

#define DOCUMENTS 16 // in a step
#define RANKS_MAX 7  // of the tests that deal to several numbers of ranks
#define STEPS 45     // more than the period of the silent steps

static struct text text;

// Paragraphs of all lengths around the bounds of a document.
static void text_open(void)
{
    const size_t size = 100000;
    uint8_t *bytes = malloc(size);
    uint64_t state = 11;
    int32_t left = 0;

    ck_assert_ptr_nonnull(bytes);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)('a' + random_below(&state, 20));
        if (--left < 0)
            bytes[i] = '\n';
        if (left < -1)
            left = random_below(&state, TEXT_DOCUMENT_MAX * 5 / 4);
    }
    ck_assert(text_cut_take(bytes, size, &text));
}

static void text_close(void)
{
    text_free(&text);
}

static struct batch_params params_of(int32_t ranks, int32_t micro_batches)
{
    struct batch_params params = {.documents = &text.training,
                                  .seed = 5,
                                  .documents_per_step = DOCUMENTS,
                                  .ranks = ranks,
                                  .micro_batches = micro_batches};

    return params;
}

// ----------------------------------------------------------------------- text

START_TEST(documents_have_the_lengths_that_are_promised)
{
    int32_t longest = 0;

    ck_assert_int_gt(text.training.count, 100);
    ck_assert_int_eq(text.heldout.count,
                     (text.training.count + text.heldout.count) / 16);
    for (int32_t i = 0; i < text.training.count; i++) {
        const struct text_document *document = &text.training.items[i];
        ck_assert_int_ge(document->length, TEXT_DOCUMENT_MIN);
        ck_assert_int_le(document->length, TEXT_DOCUMENT_MAX);
        ck_assert(document->bytes >= text.bytes);
        ck_assert(document->bytes + document->length <= text.bytes + text.size);
        if (document->length > longest)
            longest = document->length;
    }
    ck_assert_int_eq(longest, TEXT_DOCUMENT_MAX);
}
END_TEST

START_TEST(a_document_ends_at_a_blank_line)
{
    for (int32_t i = 0; i < text.training.count; i++) {
        const struct text_document *document = &text.training.items[i];
        for (int32_t t = 1; t + 1 < document->length; t++)
            ck_assert(document->bytes[t - 1] != '\n' ||
                      document->bytes[t] != '\n');
    }
}
END_TEST

START_TEST(too_little_text_is_refused)
{
    struct text little;
    uint8_t *bytes = malloc(20);

    ck_assert_ptr_nonnull(bytes);
    memset(bytes, 'a', 20);
    ck_assert(!text_cut_take(bytes, 20, &little));
}
END_TEST

// --------------------------------------------------------------------- batches

// What a valid token is, whichever batch it is in.
static uint64_t token_hash(const uint8_t context[MODEL_CONTEXT], int32_t label)
{
    uint64_t state = (uint64_t)label;

    for (int i = 0; i < MODEL_CONTEXT; i++)
        state = random_next(&state) + context[i];
    return random_next(&state);
}

// Sums over the valid tokens of all ranks: how many, and their hashes. Tokens
// of each rank into counts[ranks].
static uint64_t step_tokens(int32_t ranks, int32_t micro_batches, int64_t step,
                            int64_t counts[RANKS_MAX])
{
    struct batch_params params = params_of(ranks, micro_batches);
    uint64_t hashes = 0;

    for (int32_t rank = 0; rank < ranks; rank++) {
        struct batch batch;
        ck_assert(batch_create(&params, rank, 1, &batch));
        batch_load(&batch, step);
        counts[rank] = 0;
        for (int32_t m = 0; m < batch.count; m++) {
            const struct micro_batch *micro = &batch.micro[m];
            for (int64_t t = 0; t < micro->tokens; t++) {
                if (micro->labels[t] == BATCH_IGNORED)
                    continue;
                counts[rank]++;
                hashes += token_hash(micro->contexts[t], micro->labels[t]);
            }
        }
        batch_free(&batch);
    }
    return hashes;
}

START_TEST(every_number_of_ranks_learns_the_same_tokens)
{
    int64_t counts[RANKS_MAX];

    for (int64_t step = 1; step <= STEPS; step++) {
        uint64_t hashes = step_tokens(1, 1, step, counts);
        int64_t all = counts[0];
        for (int32_t ranks = 1; ranks <= RANKS_MAX; ranks++) {
            int64_t sum = 0;
            ck_assert_uint_eq(step_tokens(ranks, 3, step, counts), hashes);
            for (int32_t rank = 0; rank < ranks; rank++)
                sum += counts[rank];
            ck_assert_int_eq(sum, all);
        }
    }
}
END_TEST

START_TEST(the_reference_has_the_micro_batches_of_the_ranks_in_their_order)
{
    struct batch_params params = params_of(3, 2);
    struct batch all;

    ck_assert(batch_create(&params, 0, 3, &all));
    batch_load(&all, 2);
    for (int32_t rank = 0; rank < 3; rank++) {
        struct batch own;
        ck_assert(batch_create(&params, rank, 1, &own));
        batch_load(&own, 2);
        ck_assert_int_eq(own.count, 2);
        for (int32_t m = 0; m < own.count; m++) {
            const struct micro_batch *left = &own.micro[m];
            const struct micro_batch *right = &all.micro[2 * rank + m];
            ck_assert_int_eq(left->tokens, right->tokens);
            ck_assert_mem_eq(left->labels, right->labels,
                             (size_t)left->tokens * sizeof(*left->labels));
            ck_assert_mem_eq(left->contexts, right->contexts,
                             (size_t)left->tokens * sizeof(*left->contexts));
        }
        batch_free(&own);
    }
    batch_free(&all);
}
END_TEST

START_TEST(ranks_hold_different_numbers_of_tokens)
{
    int64_t counts[RANKS_MAX];

    step_tokens(4, 2, 1, counts);
    ck_assert_int_gt(counts[0], 2 * counts[3]);
    ck_assert_int_gt(counts[3], 0);
}
END_TEST

START_TEST(steps_without_labels_on_some_ranks_and_on_all_come)
{
    struct batch_params params = params_of(4, 2);
    struct batch_piece pieces[DOCUMENTS];
    int64_t counts[RANKS_MAX];
    int partly = 0;
    int all = 0;

    for (int64_t step = 1; step <= STEPS; step++) {
        int32_t silent = 0;
        batch_draw(&params, step, pieces);
        step_tokens(4, 2, step, counts);
        for (int rank = 0; rank < 4; rank++)
            silent += counts[rank] == 0;
        ck_assert_int_eq(batch_silent_ranks(&params, pieces), silent);
        partly += silent > 0 && silent < 4;
        all += silent == 4;
    }
    ck_assert_int_ge(partly, 1);
    ck_assert_int_ge(all, 1);
    ck_assert_int_le(partly + all, 4);
}
END_TEST

START_TEST(prompts_and_padding_are_not_learned)
{
    const char *words[] = {"0123456789", "abcd"};
    struct text_document documents[2];
    struct batch_piece pieces[2];
    struct micro_batch micro;

    for (int i = 0; i < 2; i++) {
        documents[i].bytes = (const uint8_t *)words[i];
        documents[i].length = (int32_t)strlen(words[i]);
        pieces[i].document = &documents[i];
    }
    pieces[0].prompt = 3;
    pieces[1].prompt = 0;
    ck_assert(micro_batch_create(20, &micro));
    micro_batch_fill(&micro, pieces, 2);
    ck_assert_int_eq(micro.tokens, 20);
    for (int t = 0; t < 10; t++) {
        ck_assert_int_eq(micro.labels[t], t < 3 ? BATCH_IGNORED : '0' + t);
        ck_assert_int_eq(micro.labels[10 + t], t < 4 ? 'a' + t : BATCH_IGNORED);
    }
    ck_assert_mem_eq(micro.contexts[4] + MODEL_CONTEXT - 5,
                     "\0"
                     "0123",
                     5);
    ck_assert_mem_eq(micro.contexts[10], (uint8_t[MODEL_CONTEXT]){0},
                     MODEL_CONTEXT);
    micro_batch_free(&micro);
}
END_TEST

// ----------------------------------------------------------------------- model

struct bench {
    struct batch batch;
    struct activations activations;
    struct model model;
    struct model gradient;
};

static struct bench bench;

static void bench_open(void)
{
    struct batch_params params = params_of(4, 2);

    text_open();
    ck_assert(batch_create(&params, 1, 1, &bench.batch));
    batch_load(&bench.batch, 1);
    ck_assert(activations_create(bench.batch.tokens_max, &bench.activations));
    model_initialise(&bench.model, 3);
    memset(&bench.gradient, 0, sizeof(bench.gradient));
}

static void bench_close(void)
{
    activations_free(&bench.activations);
    batch_free(&bench.batch);
    text_close();
}

// The logits become the gradient of the mean loss, as Tally would leave them;
// rows that do not count become NaN, which nobody may read.
static void loss_backward(const struct micro_batch *micro)
{
    int64_t count = 0;

    for (int64_t t = 0; t < micro->tokens; t++)
        count += micro->labels[t] != BATCH_IGNORED;
    for (int64_t t = 0; t < micro->tokens; t++) {
        float *row = bench.activations.logits[t];
        double sum = 0;
        for (int i = 0; i < MODEL_VOCAB; i++)
            sum += exp((double)row[i]);
        for (int i = 0; i < MODEL_VOCAB; i++) {
            double p = exp((double)row[i]) / sum;
            row[i] =
                micro->labels[t] == BATCH_IGNORED
                    ? NAN
                    : (float)((p - (i == micro->labels[t])) / (double)count);
        }
    }
}

// d loss / d step of the size, along `direction` in floats [first, end).
static double slope(const float *direction, size_t first, size_t end,
                    double size)
{
    const struct micro_batch *micro = &bench.batch.micro[0];
    float *values = (float *)&bench.model;
    struct model saved = bench.model;
    double loss[2];

    for (int side = 0; side < 2; side++) {
        double signed_size = side == 0 ? -size : size;
        for (size_t i = first; i < end; i++)
            values[i] += (float)(signed_size * (double)direction[i]);
        loss[side] = model_evaluate(&bench.model, micro, &bench.activations);
        bench.model = saved;
    }
    return (loss[1] - loss[0]) / (2 * size);
}

// Compares the gradient with finite differences along a direction in one of
// the arrays.
static void check_direction(const float *direction, size_t first, size_t end)
{
    const float *gradient = (const float *)&bench.gradient;
    double along = 0;
    double length = 0;

    for (size_t i = first; i < end; i++) {
        along += (double)gradient[i] * (double)direction[i];
        length += (double)direction[i] * (double)direction[i];
    }
    length = sqrt(length);
    ck_assert_double_gt(length, 0);
    double measured = slope(direction, first, end, 0.02 / length);
    ck_assert_double_eq_tol(measured / length, along / length, 2e-4);
    // The gradient of each array is large enough for this to mean something.
    ck_assert_double_gt(fabs(along) / length, 2e-3);
}

#define MEMBER_FIRST(member) (offsetof(struct model, member) / sizeof(float))
#define MEMBER_END(member)                                                     \
    (MEMBER_FIRST(member) + sizeof(bench.model.member) / sizeof(float))

static const struct {
    size_t first, end;
} members[] = {
    {MEMBER_FIRST(embedding), MEMBER_END(embedding)},
    {MEMBER_FIRST(hidden_weight), MEMBER_END(hidden_weight)},
    {MEMBER_FIRST(hidden_bias), MEMBER_END(hidden_bias)},
    {MEMBER_FIRST(logit_weight), MEMBER_END(logit_weight)},
    {MEMBER_FIRST(logit_bias), MEMBER_END(logit_bias)},
};

// Along the gradient itself, and along random halves of it: a wrong entry shows
// in one or the other.
START_TEST(gradients_are_those_of_finite_differences)
{
    const struct micro_batch *micro = &bench.batch.micro[0];
    static struct model direction_model;
    float *direction = (float *)&direction_model;
    const float *gradient = (const float *)&bench.gradient;
    uint64_t state = 17;

    model_forward(&bench.model, micro, &bench.activations);
    loss_backward(micro);
    model_backward(&bench.model, micro, &bench.activations, &bench.gradient);
    for (int half = 0; half < 4; half++) {
        for (size_t i = 0; i < MODEL_PARAMETERS; i++)
            direction[i] =
                half == 0 || random_below(&state, 2) == 0 ? gradient[i] : 0;
        check_direction(direction, members[_i].first, members[_i].end);
    }
}
END_TEST

START_TEST(gradients_of_tokens_add_up)
{
    const struct micro_batch *micro = &bench.batch.micro[0];
    const float *twice = (const float *)&bench.gradient;
    static struct model once_model;
    const float *once = (const float *)&once_model;

    model_forward(&bench.model, micro, &bench.activations);
    loss_backward(micro);
    model_backward(&bench.model, micro, &bench.activations, &once_model);
    for (int i = 0; i < 2; i++)
        model_backward(&bench.model, micro, &bench.activations,
                       &bench.gradient);
    for (size_t i = 0; i < MODEL_PARAMETERS; i++)
        ck_assert_double_eq_tol((double)twice[i], 2 * (double)once[i], 1e-6);
}
END_TEST

START_TEST(logits_do_not_depend_on_the_rest_of_the_batch)
{
    struct batch_piece pieces[DOCUMENTS];
    struct batch_params params = params_of(1, 1);
    struct micro_batch alone, together;
    struct activations few, many;

    batch_draw(&params, 1, pieces);
    int32_t longest = pieces[0].document->length;
    int32_t length = pieces[5].document->length;
    ck_assert_int_lt(length, longest);
    ck_assert(micro_batch_create(length, &alone));
    ck_assert(micro_batch_create((int64_t)longest * 6, &together));
    ck_assert(activations_create(length, &few));
    ck_assert(activations_create((int64_t)longest * 6, &many));
    micro_batch_fill(&alone, pieces + 5, 1);
    micro_batch_fill(&together, pieces, 6);
    model_forward(&bench.model, &alone, &few);
    model_forward(&bench.model, &together, &many);
    for (int32_t t = pieces[5].prompt; t < length; t++)
        ck_assert_mem_eq(few.logits[t], many.logits[5 * longest + t],
                         sizeof(few.logits[t]));
    activations_free(&many);
    activations_free(&few);
    micro_batch_free(&together);
    micro_batch_free(&alone);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("trainer");
    TCase *texts = tcase_create("text and batches");
    TCase *models = tcase_create("model");

    tcase_add_checked_fixture(texts, text_open, text_close);
    tcase_set_timeout(texts, 60);
    tcase_add_test(texts, documents_have_the_lengths_that_are_promised);
    tcase_add_test(texts, a_document_ends_at_a_blank_line);
    tcase_add_test(texts, too_little_text_is_refused);
    tcase_add_test(texts, every_number_of_ranks_learns_the_same_tokens);
    tcase_add_test(
        texts, the_reference_has_the_micro_batches_of_the_ranks_in_their_order);
    tcase_add_test(texts, ranks_hold_different_numbers_of_tokens);
    tcase_add_test(texts, steps_without_labels_on_some_ranks_and_on_all_come);
    tcase_add_test(texts, prompts_and_padding_are_not_learned);
    suite_add_tcase(suite, texts);

    tcase_add_checked_fixture(models, bench_open, bench_close);
    tcase_set_timeout(models, 120);
    tcase_add_loop_test(models, gradients_are_those_of_finite_differences, 0,
                        (int)(sizeof(members) / sizeof(members[0])));
    tcase_add_test(models, gradients_of_tokens_add_up);
    tcase_add_test(models, logits_do_not_depend_on_the_rest_of_the_batch);
    suite_add_tcase(suite, models);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
