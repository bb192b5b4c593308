// SPDX-License-Identifier: BSD-3-Clause
// Tests with more elements than 32 bits count: the rows around 2^31 and 2^32
// elements count, with the first and the last ones, and every other byte is
// looked at by the machine. The same with few rows and boundaries that the
// emulator comes to, so that a mistake of the test is seen there.
#include <string.h>

#include "gpu/tests.h"

#define GUARD 256 // bytes before and behind an output
#define CANARY 0x5a
#define OTHER 0xff // a NaN in rows that do not count
#define LAST 3

struct extent {
    int64_t vocab, rows;
    int64_t boundaries[2]; // elements, within a row that counts
};

static const struct extent large = {
    128256, 33600, {INT64_C(1) << 31, INT64_C(1) << 32}}; // 8.6 GB
static const struct extent large_short = {
    32000, 134400, {INT64_C(1) << 31, INT64_C(1) << 32}};
static const struct extent scaled = {1032, 40, {1 << 13, 1 << 15}};
// As many rows as go to the kernel of short ones.
static const struct extent scaled_short = {1032, 160, {1 << 15, 1 << 17}};

static std::vector<int64_t> rows_that_count(const struct extent &extent)
{
    std::vector<int64_t> rows = {0};

    for (int64_t boundary : extent.boundaries)
        for (int64_t i = -1; i <= 1; i++)
            rows.push_back(boundary / extent.vocab + i);
    for (int64_t i = LAST; i > 0; i--)
        rows.push_back(extent.rows - i);
    return rows;
}

// An output, filled with the canary.
struct guarded {
    size_t bytes;
    char *memory;

    guarded(size_t size)
        : bytes(size), memory((char *)machine_alloc(size + 2 * GUARD))
    {
        machine_fill(memory, CANARY, bytes + 2 * GUARD);
    }
    guarded(const guarded &) = delete;
    ~guarded()
    {
        machine_free(memory);
    }
    char *at() const
    {
        return memory + GUARD;
    }
    bool intact() const
    {
        return machine_differs(memory, CANARY, GUARD) == GUARD &&
               machine_differs(at() + bytes, CANARY, GUARD) == GUARD;
    }
};

struct scene {
    const struct extent &extent;
    const std::vector<int64_t> counting;
    const size_t row;               // bytes
    struct batch batch;             // the rows that count
    std::vector<uint16_t> elements; // of their logits
    struct guarded logits, gradient, labels, nll, parts, record;

    scene(const struct extent &e, bool in_place)
        : extent(e), counting(rows_that_count(e)), row((size_t)e.vocab * 2),
          batch(KERNEL_BF16, e.vocab, (int64_t)counting.size(), 5),
          elements(batch.logits.size()), logits(row * (size_t)e.rows),
          gradient(in_place ? 0 : row * (size_t)e.rows),
          labels((size_t)e.rows * 8), nll((size_t)e.rows * 4),
          parts((size_t)e.rows * sizeof(struct kernel_parts)),
          record(sizeof(struct numeric_record))
    {
        const struct numeric_record none = {};
        std::vector<int64_t> all((size_t)extent.rows, JOB_IGNORE);

        for (size_t i = 0; i < elements.size(); i++)
            element_store(KERNEL_BF16, batch.logits[i], (char *)&elements[i]);
        machine_fill(logits.at(), OTHER, logits.bytes);
        for (size_t i = 0; i < counting.size(); i++) {
            all[(size_t)counting[i]] = batch.labels[i];
            machine_put(logits.at() + row * (size_t)counting[i],
                        &elements[i * (size_t)extent.vocab], row);
        }
        machine_put(labels.at(), all.data(), labels.bytes);
        machine_put(record.at(), &none, sizeof(none));
    }

    const struct guarded &written() const
    {
        return gradient.bytes == 0 ? logits : gradient;
    }
    bool run(bool fused);
    int64_t find_row(const struct guarded &in, const void *bytes,
                     size_t row_bytes, int other) const;
};

// Returns whether the kernel exists for it.
bool scene::run(bool fused)
{
    const struct kernel_device device = machine_device();
    struct kernel_job job = {};

    job.labels = {labels.at(), NULL, extent.rows, extent.vocab, JOB_IGNORE,
                  1,           0};
    job.logits = logits.at();
    job.stride = extent.vocab;
    job.width = extent.vocab;
    job.nll = (float *)nll.at();
    job.record = (struct numeric_record *)record.at();
    job.gradient = written().at();
    job.gradient_stride = extent.vocab;
    if (fused) {
        const enum kernel_name name =
            kernel_loss_grad_is_long(KERNEL_BF16, extent.vocab)
                ? RUN_LOSS_GRAD_LONG
                : RUN_LOSS_GRAD;
        if (!kernel_loss_grad_fits(&device, KERNEL_BF16, &job))
            return false;
        machine_run(
            {name, KERNEL_BF16, false}, &job, sizeof(job),
            kernel_loss_grad_shape(KERNEL_BF16, extent.vocab, extent.rows), 1);
        return true;
    }
    job.parts = (struct kernel_parts *)parts.at();
    loss_run(KERNEL_BF16, false, job, 1);
    machine_run({RUN_BACKWARD, KERNEL_BF16, false}, &job, sizeof(job),
                kernel_backward_shape(KERNEL_BF16, extent.vocab, extent.rows),
                1);
    return true;
}

// The first row that is not as it must be: one that counts has its bytes, and
// all bytes of the others are `other`. -1: there is none.
int64_t scene::find_row(const struct guarded &in, const void *bytes,
                        size_t row_bytes, int other) const
{
    std::vector<char> got(row_bytes);
    int64_t next = 0;

    for (size_t i = 0; i <= counting.size(); i++) {
        const int64_t end = i < counting.size() ? counting[i] : extent.rows;
        const size_t between = (size_t)(end - next) * row_bytes;
        const size_t found =
            machine_differs(in.at() + (size_t)next * row_bytes, other, between);
        if (found < between)
            return next + (int64_t)(found / row_bytes);
        if (i == counting.size())
            break;
        machine_get(got.data(), in.at() + (size_t)end * row_bytes, row_bytes);
        if (memcmp(got.data(), (const char *)bytes + i * row_bytes,
                   row_bytes) != 0)
            return end;
        next = end + 1;
    }
    return -1;
}

// That the machine finds what it is asked for: behind each boundary, too.
static void check_finding(const struct scene &scene)
{
    const char zero = 0;

    for (int64_t boundary : scene.extent.boundaries) {
        const int64_t row = boundary / scene.extent.vocab + 2;
        char *at = scene.logits.at() + (size_t)row * scene.row + 5;
        const char other = (char)OTHER;
        machine_put(at, &zero, 1);
        const int64_t found = scene.find_row(
            scene.logits, scene.elements.data(), scene.row, OTHER);
        CHECK(found == row, "a byte in row %lld was found in %lld",
              (long long)row, (long long)found);
        machine_put(at, &other, 1);
        CHECK(boundary % scene.extent.vocab != 0, "a row begins there");
    }
}

static void check(const struct scene &scene, const struct outcome &want,
                  bool fused)
{
    struct numeric_record record;
    std::vector<uint16_t> bits(want.bits.begin(), want.bits.end());
    int64_t row = scene.find_row(scene.written(), bits.data(), scene.row, 0);

    CHECK(row < 0, "gradient: row %lld", (long long)row);
    row = scene.gradient.bytes == 0
              ? -1
              : scene.find_row(scene.logits, scene.elements.data(), scene.row,
                               OTHER);
    CHECK(row < 0, "logits: row %lld was written to", (long long)row);
    row = scene.find_row(scene.nll, want.nll.data(), 4, 0);
    CHECK(row < 0, "nll: row %lld", (long long)row);
    machine_get(&record, scene.record.at(), sizeof(record));
    CHECK(memcmp(&record, &want.record, sizeof(record)) == 0, "count %lld",
          (long long)record.count);
    CHECK(!fused || machine_differs(scene.parts.at(), CANARY,
                                    scene.parts.bytes) == scene.parts.bytes,
          "parts were written, and not asked for");
    for (const struct guarded *one :
         {&scene.logits, &scene.gradient, &scene.labels, &scene.nll,
          &scene.parts, &scene.record})
        CHECK(one->intact(), "bytes around %zu others were written",
              one->bytes);
}

static void run_all(const struct extent &extent)
{
    struct how how;

    how.way = WAY_TWO;
    for (int i = 0; i < 4 && !test_has_failed(); i++) {
        struct scene scene(extent, i / 2 == 0);
        if (i == 0)
            check_finding(scene);
        if (scene.run(i % 2 != 0))
            check(scene, batch_run(scene.batch, how), i % 2 != 0);
    }
}

static void rows_around_a_boundary_are_right()
{
    run_all(scaled);
    run_all(scaled_short);
}

static void rows_around_2_to_the_32_elements_are_right()
{
    if (machine_is_emulated())
        return;
    run_all(large);
    run_all(large_short);
}

const std::vector<struct test> tests_of_size = {
    TEST(rows_around_a_boundary_are_right),
    TEST(rows_around_2_to_the_32_elements_are_right),
};
