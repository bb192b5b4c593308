// SPDX-License-Identifier: BSD-3-Clause
// Tests with more elements than 32 bits count, on a GPU alone: of all rows only
// the last three count, so the rest is never written by the host.
#include <string.h>

#include "gpu/tests.h"

#define VOCAB 128256
#define ROWS 33600 // 4.3e9 elements, 8.6 GB
#define LAST 3

static void run_large(bool in_place, bool fused)
{
    const struct kernel_device device = machine_device();
    const size_t row = (size_t)VOCAB * 2;
    struct batch small(KERNEL_BF16, VOCAB, LAST, 5);
    struct how how;
    how.way = WAY_TWO;
    const struct outcome want = batch_run(small, how);
    std::vector<int64_t> labels(ROWS, JOB_IGNORE);
    std::vector<uint16_t> last((size_t)LAST * VOCAB);
    std::vector<uint16_t> got(last.size());
    std::vector<float> nll(ROWS);
    struct numeric_record record = {};

    for (size_t i = 0; i < last.size(); i++) {
        uint32_t bits;
        memcpy(&bits, &small.logits[i], sizeof(bits));
        last[i] = (uint16_t)(bits >> 16);
    }
    memcpy(&labels[ROWS - LAST], small.labels.data(), LAST * sizeof(int64_t));
    char *logits = (char *)machine_alloc(row * ROWS);
    char *gradient = in_place ? logits : (char *)machine_alloc(row * ROWS);
    void *at_labels = machine_alloc(ROWS * 8);
    void *at_nll = machine_alloc(ROWS * 4);
    void *at_record = machine_alloc(sizeof(record));
    void *parts = machine_alloc(ROWS * sizeof(struct kernel_parts));
    machine_put(logits + row * (ROWS - LAST), last.data(), row * LAST);
    machine_put(at_labels, labels.data(), ROWS * 8);
    machine_put(at_record, &record, sizeof(record));
    struct kernel_job job = {};
    job.labels = {at_labels, NULL, ROWS, VOCAB, JOB_IGNORE, 1, 0};
    job.logits = logits;
    job.stride = VOCAB;
    job.width = VOCAB;
    job.nll = (float *)at_nll;
    job.record = (struct numeric_record *)at_record;
    job.parts = (struct kernel_parts *)parts;
    job.gradient = gradient;
    job.gradient_stride = VOCAB;
    if (fused) {
        machine_run({RUN_LOSS_GRAD, KERNEL_BF16, false}, &job, sizeof(job),
                    kernel_loss_grad_shape(KERNEL_BF16, VOCAB, ROWS), 1);
    } else {
        machine_run({RUN_LOSS, KERNEL_BF16, false}, &job, sizeof(job),
                    kernel_loss_shape(&device, KERNEL_BF16, VOCAB, ROWS), 1);
        machine_run({RUN_BACKWARD, KERNEL_BF16, false}, &job, sizeof(job),
                    kernel_backward_shape(KERNEL_BF16, VOCAB, ROWS), 1);
    }
    machine_get(got.data(), gradient + row * (ROWS - LAST), row * LAST);
    machine_get(nll.data(), at_nll, ROWS * 4);
    machine_get(&record, at_record, sizeof(record));
    if (!in_place)
        machine_free(gradient);
    for (void *memory : {(void *)logits, at_labels, at_nll, at_record, parts})
        machine_free(memory);
    CHECK(memcmp(&record, &want.record, sizeof(record)) == 0, "count %lld",
          (long long)record.count);
    CHECK(memcmp(&nll[ROWS - LAST], want.nll.data(), LAST * 4) == 0,
          "nll %g, not %g", (double)nll[ROWS - LAST], (double)want.nll[0]);
    for (size_t i = 0; i < got.size(); i++)
        CHECK(got[i] == want.bits[i], "gradient %zu: %04x, not %04x", i, got[i],
              want.bits[i]);
}

static void rows_beyond_2_to_the_32_elements_are_right()
{
    if (machine_is_emulated())
        return;
    for (int i = 0; i < 4; i++)
        if (i % 2 == 0 || machine_device().clusters)
            run_large(i / 2 == 0, i % 2 != 0);
}

const std::vector<struct test> tests_of_size = {
    TEST(rows_beyond_2_to_the_32_elements_are_right),
};
