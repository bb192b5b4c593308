// SPDX-License-Identifier: BSD-3-Clause
// Tests of the kernels of a stream that read what others made: wait, and the
// small ones, maximum and multiply.
#include <math.h>
#include <unistd.h>

#include "gpu/side.h"
#include "numeric/maximum.h"

#define MS UINT64_C(1000000)
#define NEVER_MS UINT64_C(3600000)
#define PATIENCE_S 20 // the test program ends then

// A step's answers from the host.
struct answers {
    uint32_t channels;
    array<struct kernel_state> state{1};
    array<uint64_t> words, expired{1};
    array<float> scales;

    explicit answers(uint32_t of_channels)
        : channels(of_channels), words(KERNEL_SLOTS * of_channels),
          scales(of_channels)
    {
    }

    void give(uint64_t sequence, uint32_t channel, float scale)
    {
        uint32_t bits;

        memcpy(&bits, &scale, sizeof(bits));
        words.host[sequence % KERNEL_SLOTS * channels + channel] =
            sequence << 32 | bits;
    }

    // A failure in mid-wait would last for ever.
    void wait_for(uint64_t sequence, uint64_t deadline_ms, uint64_t seed)
    {
        state.host[0].awaited = sequence;
        state.put();
        words.put();
        const struct kernel_wait wait = {state.at,        words.at, expired.at,
                                         scales.at,       channels, 0,
                                         deadline_ms * MS};
        alarm(PATIENCE_S);
        machine_run({RUN_WAIT, KERNEL_F32, false}, &wait, sizeof(wait),
                    {1, 1, KERNEL_SLOT_THREADS, 0}, seed);
        alarm(0);
        state.get();
        expired.get();
        scales.get();
    }
};

static void a_wait_takes_the_answer_of_its_own_sequence()
{
    for (uint32_t channels : {1u, 3u, (uint32_t)KERNEL_CHANNELS_MAX}) {
        struct answers answers(channels);
        for (uint64_t n = 1; n <= 2 * KERNEL_SLOTS + 1; n++) {
            // Beside those of the slots before and behind.
            for (uint32_t k = 0; k < channels; k++)
                answers.give(n, k, (float)n + (float)k / 64);
            answers.wait_for(n, NEVER_MS, n);
            for (uint32_t k = 0; k < channels; k++)
                CHECK(answers.scales.host[k] == (float)n + (float)k / 64,
                      "sequence %d, channel %d: %g", (int)n, (int)k,
                      (double)answers.scales.host[k]);
            CHECK(answers.state.host[0].expired == 0 &&
                      answers.expired.host[0] == 0,
                  "sequence %d is said to have expired", (int)n);
        }
    }
}

static void a_wait_ends_by_its_deadline_and_those_after_it_at_once()
{
    const uint32_t late = 2;
    const uint64_t n = KERNEL_SLOTS + 1;
    struct answers answers(5);

    // What the slot held before is no answer.
    answers.give(n - KERNEL_SLOTS, late, 1);
    for (uint32_t k = 0; k < answers.channels; k++)
        if (k != late)
            answers.give(n, k, 0.5f);
    answers.wait_for(n, 20, 1);
    for (uint32_t k = 0; k < answers.channels; k++)
        CHECK(k == late ? isnan(answers.scales.host[k])
                        : answers.scales.host[k] == 0.5f,
              "channel %d: %g", (int)k, (double)answers.scales.host[k]);
    CHECK(answers.state.host[0].expired == n && answers.expired.host[0] == n,
          "it was %d that expired, the host is told %d",
          (int)answers.state.host[0].expired, (int)answers.expired.host[0]);

    answers.wait_for(n + 2, NEVER_MS, 2);
    for (uint32_t k = 0; k < answers.channels; k++)
        CHECK(isnan(answers.scales.host[k]), "channel %d afterwards: %g",
              (int)k, (double)answers.scales.host[k]);
    CHECK(answers.state.host[0].expired == n && answers.expired.host[0] == n,
          "the first that expired is forgotten");
}

static void a_maximum_is_the_largest_offered()
{
    const float offered[] = {-2, -3, -0.0f, 0.0f, 1.5f, -INFINITY, 1.25f};
    array<int64_t> code(1);
    array<float> value(1);
    int64_t most = code.host[0] = INT64_MIN;

    code.put();
    for (float x : offered) {
        value.host[0] = x;
        value.put();
        const struct kernel_maximum maximum = {code.at, value.at};
        machine_run({RUN_MAXIMUM, KERNEL_F32, false}, &maximum, sizeof(maximum),
                    {1, 1, 32, 0}, 1);
        code.get();
        const int64_t own = numeric_maximum_encode(x);
        most = own > most ? own : most;
        CHECK(code.host[0] == most, "after %g: %lld", (double)x,
              (long long)code.host[0]);
    }
}

// Beside and between elements nothing is written.
static void multiply_and_check(enum kernel_element type, size_t elements,
                               size_t shift, float by)
{
    const size_t bytes = (size_t)kernel_element_bytes(type);
    const struct kernel_device device = machine_device();
    struct random random = random_seeded(elements);
    array<char> values(shift + elements * bytes + 32);
    array<float> factor(1);

    factor.host[0] = by;
    factor.put();
    memset(values.host.data(), 0x55, values.host.size());
    std::vector<char> expected = values.host;
    for (size_t i = 0; i < elements; i++) {
        const float x = element_round(
            type, (long double)random_below(&random, 4096) / 64 - 32);
        element_store(type, x, &values.host[shift + i * bytes]);
        element_store(type, element_round(type, (long double)(x * by)),
                      &expected[shift + i * bytes]);
    }
    values.put();
    const struct kernel_multiply job = {values.at + shift, (int64_t)elements,
                                        factor.at};
    machine_run({RUN_MULTIPLY, type, false}, &job, sizeof(job),
                kernel_multiply_shape(&device, (int64_t)elements), elements);
    values.get();
    for (size_t i = 0; i < elements; i++)
        CHECK(memcmp(&values.host[shift + i * bytes],
                     &expected[shift + i * bytes], bytes) == 0,
              "type %d, element %d of %d, %d bytes on, times %g", (int)type,
              (int)i, (int)elements, (int)shift, (double)by);
    CHECK(values.host == expected, "type %d, %d elements: what is beside them",
          (int)type, (int)elements);
}

static void gradients_times_what_follows_the_loss()
{
    for (enum kernel_element type : {KERNEL_F32, KERNEL_BF16, KERNEL_F16})
        for (size_t elements : {1u, 7u, 8u, 300u, 70001u})
            for (size_t shift : {0u, 4u, 16u})
                for (float by : {1.0f, 0.0f, -0.3f}) {
                    multiply_and_check(type, elements, shift, by);
                    if (test_has_failed())
                        return;
                }
}

const std::vector<struct test> tests_of_waits = {
    TEST(a_wait_takes_the_answer_of_its_own_sequence),
    TEST(a_wait_ends_by_its_deadline_and_those_after_it_at_once),
    TEST(a_maximum_is_the_largest_offered),
    TEST(gradients_times_what_follows_the_loss),
};
