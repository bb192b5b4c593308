// SPDX-License-Identifier: BSD-3-Clause
// Runs a micro-batch; see job.h. What comes out of it is in reference.cc.
#include "gpu/job.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device/host_element.h"

// Before and after every output.
#define GUARD 256
#define CANARY 0x5a
#define RANKS 3

static enum host_row_type row_type(enum kernel_element type)
{
    return type == KERNEL_F32    ? HOST_ROW_F32
           : type == KERNEL_BF16 ? HOST_ROW_BF16
                                 : HOST_ROW_F16;
}

batch::batch(enum kernel_element of, int64_t columns, int64_t rows,
             uint64_t seed)
    : type(of), vocab(columns), tokens(rows), stride(columns),
      gradient_stride(columns), labels(rows), logits(columns * rows)
{
    struct random random = random_seeded(seed);

    for (int64_t &label : labels)
        label = (int64_t)(random_next(&random) % (uint64_t)vocab);
    for (int64_t i = 0; i < tokens * vocab; i++)
        set(i / vocab, i % vocab,
            (float)(random_next(&random) >> 40) * 0x1p-20f - 8);
}

void batch::set(int64_t token, int64_t j, float x)
{
    logit(token, j) = element_round(type, (long double)x);
}

// Of nothing there may be no address.
static bool same(const void *a, const void *b, size_t bytes)
{
    return bytes == 0 || memcmp(a, b, bytes) == 0;
}

// Memory of the machine with a guard before and after; `shift` bytes off.
struct buffer {
    char *memory;
    std::vector<char> before; // as it was put there
    size_t bytes;
    size_t offset;

    // Without guards the sanitizer of the emulator sees what is beyond.
    buffer(size_t size, int shift, bool guards, int fill)
        : bytes(size), offset((guards ? GUARD : 0) + (size_t)shift)
    {
        before.assign(offset + bytes + (guards ? GUARD : 0), (char)fill);
        memory = (char *)machine_alloc(before.size());
    }
    buffer(const buffer &) = delete;
    ~buffer()
    {
        machine_free(memory);
    }
    char *at()
    {
        return memory + offset;
    }
    char *host()
    {
        return before.data() + offset;
    }
    void put()
    {
        machine_put(memory, before.data(), before.size());
    }
    // What is there now; false if the guards have changed.
    bool get(std::vector<char> *out)
    {
        std::vector<char> now(before.size());
        machine_get(now.data(), memory, now.size());
        out->assign(now.begin() + (long)offset,
                    now.begin() + (long)(offset + bytes));
        return same(now.data(), before.data(), offset) &&
               same(now.data() + offset + bytes, before.data() + offset + bytes,
                    now.size() - offset - bytes);
    }
};

struct setup {
    const struct batch &batch;
    const struct how &how;
    int64_t element;
    struct buffer labels, weights, logits, gradient, nll, record, parts, shards,
        scales;

    setup(const struct batch &b, const struct how &h)
        : batch(b), how(h), element(kernel_element_bytes(b.type)),
          labels((size_t)(b.tokens * (b.wide ? 8 : 4)), 0, false, 0),
          weights(b.weights.size() * 4, 0, false, 0),
          logits((size_t)(b.tokens > 0
                              ? ((b.tokens - 1) * b.stride + b.vocab) * element
                              : 0),
                 b.shift, h.in_place, 0xff),
          gradient((size_t)(b.tokens * b.gradient_stride * element),
                   b.gradient_shift, true, CANARY),
          nll((size_t)(b.tokens * 4), 0, true, CANARY),
          record(sizeof(struct numeric_record), 0, true, CANARY),
          parts((size_t)b.tokens * sizeof(struct kernel_parts), 0, true,
                CANARY),
          shards((size_t)b.tokens * RANKS * sizeof(struct kernel_parts), 0,
                 true, CANARY),
          scales(8, 0, false, 0)
    {
        for (int64_t i = 0; i < b.tokens; i++) {
            if (b.wide)
                memcpy(labels.host() + i * 8, &b.labels[i], 8);
            else {
                int32_t label = (int32_t)b.labels[i];
                memcpy(labels.host() + i * 4, &label, 4);
            }
            for (int64_t j = 0; j < b.vocab; j++)
                host_element_store(row_type(b.type), logits.host(),
                                   i * b.stride + j, b.logits[i * b.vocab + j]);
        }
        if (!b.weights.empty())
            memcpy(weights.host(), b.weights.data(), b.weights.size() * 4);
        memset(record.host(), 0, sizeof(struct numeric_record));
        memcpy(scales.host(), &b.scale, 4);
        memcpy(scales.host() + 4, &b.grad_scale, 4);
        for (buffer *one : {&labels, &weights, &logits, &gradient, &nll,
                            &record, &parts, &shards, &scales})
            one->put();
    }

    struct kernel_labels kernel_labels()
    {
        return {labels.at(),
                batch.weights.empty() ? NULL : (const float *)weights.at(),
                batch.tokens,
                batch.vocab,
                batch.ignore_index,
                batch.wide,
                0};
    }

    struct kernel_job job()
    {
        struct kernel_job job = {};

        job.labels = kernel_labels();
        job.logits = logits.at();
        job.stride = batch.stride;
        job.width = batch.vocab;
        job.shaping = batch.shaping;
        job.nll = how.without_nll ? NULL : (float *)nll.at();
        job.record =
            how.without_record ? NULL : (struct numeric_record *)record.at();
        job.gradient = how.in_place ? logits.at() : gradient.at();
        job.gradient_stride =
            how.in_place ? batch.stride : batch.gradient_stride;
        job.scale = batch.has_scale ? (const float *)scales.at() : NULL;
        job.grad_scale =
            batch.has_grad_scale ? (const float *)scales.at() + 1 : NULL;
        return job;
    }

    void run(enum kernel_name name, const struct kernel_job &job)
    {
        const struct kernel_shape shape =
            name == RUN_BACKWARD
                ? kernel_backward_shape(batch.type, job.width, batch.tokens)
                : kernel_loss_grad_shape(batch.type, job.width, batch.tokens);

        if (name == RUN_LOSS_GRAD &&
            kernel_loss_grad_is_long(batch.type, job.width))
            name = RUN_LOSS_GRAD_LONG;
        machine_run({name, batch.type, batch.shaped}, &job, sizeof(job), shape,
                    how.seed);
    }

    void run_loss(const struct kernel_job &job)
    {
        const struct machine_kernel loss = {RUN_LOSS, batch.type, batch.shaped};
        const struct machine_kernel rows = {RUN_LOSS_ROWS, batch.type, false};

        if (how.cluster > 0)
            machine_run(loss, &job, sizeof(job),
                        kernel_loss_shape_of(batch.type, job.width,
                                             batch.tokens, how.cluster),
                        how.seed);
        else if (how.singles >= 0)
            machine_run(rows, &job, sizeof(job),
                        kernel_loss_rows_shape_of(batch.tokens, how.singles),
                        how.seed);
        else
            loss_run(batch.type, batch.shaped, job, how.seed);
    }

    void allow_others(bool allowed);
    void parallel();
};

// Rows that do not count, by their labels.
void setup::allow_others(bool allowed)
{
    for (int64_t i = 0; i < batch.tokens; i++) {
        const int64_t label = batch.labels[(size_t)i];
        if (label < 0 || label >= batch.vocab || label == batch.ignore_index)
            machine_allow(logits.at() + i * batch.stride * element,
                          (size_t)(batch.vocab * element), allowed);
    }
}

// Each rank has a third of the columns; the first has a little less.
void setup::parallel()
{
    struct kernel_parts *all = (struct kernel_parts *)shards.at();
    int64_t ends[RANKS + 1] = {0, batch.vocab / 3, batch.vocab * 2 / 3,
                               batch.vocab};
    struct kernel_job of[RANKS];

    for (int r = 0; r < RANKS; r++) {
        of[r] = job();
        of[r].begin = ends[r];
        of[r].width = ends[r + 1] - ends[r];
        of[r].logits = logits.at() + ends[r] * element;
        of[r].gradient = (char *)of[r].gradient + ends[r] * element;
        of[r].parts = all + r * batch.tokens;
        of[r].nll = NULL;
        of[r].record = NULL;
        run_loss(of[r]);
    }
    struct kernel_finish finish = {kernel_labels(),
                                   all,
                                   RANKS,
                                   batch.shaping,
                                   (struct kernel_parts *)parts.at(),
                                   (float *)nll.at(),
                                   (struct numeric_record *)record.at()};
    machine_run({RUN_FINISH, batch.type, batch.shaped}, &finish, sizeof(finish),
                kernel_finish_shape(batch.tokens), how.seed);
    for (int r = 0; r < RANKS; r++) {
        of[r].parts = finish.parts;
        run(RUN_BACKWARD, of[r]);
    }
}

bool batch_fits_fused(const struct batch &batch)
{
    struct how how;
    struct setup setup(batch, how);
    struct kernel_job job = setup.job();
    struct kernel_device device = machine_device();

    return !batch.shaped && kernel_loss_grad_fits(&device, batch.type, &job);
}

bool batch_fits_rows(const struct batch &batch)
{
    struct how how;
    struct setup setup(batch, how);
    struct kernel_job job = setup.job();

    return !batch.shaped && kernel_loss_rows_fits(batch.type, &job);
}

void loss_run(enum kernel_element type, bool shaped,
              const struct kernel_job &job, uint64_t seed)
{
    const struct kernel_device device = machine_device();
    const int64_t tokens = job.labels.tokens;

    if (!shaped && kernel_loss_rows_pays(&device, type, &job))
        machine_run({RUN_LOSS_ROWS, type, false}, &job, sizeof(job),
                    kernel_loss_rows_shape(&device, tokens), seed);
    else
        machine_run({RUN_LOSS, type, shaped}, &job, sizeof(job),
                    kernel_loss_shape(&device, type, job.width, tokens), seed);
}

// From rows apart to rows together; what is between must be as it was.
static bool rows_take(const struct batch &batch, int64_t stride,
                      struct buffer *buffer, struct outcome *out)
{
    std::vector<char> now;
    bool kept = buffer->get(&now);
    const int64_t bytes = kernel_element_bytes(batch.type);

    out->gradient.resize((size_t)(batch.tokens * batch.vocab));
    out->bits.assign(out->gradient.size(), 0);
    for (int64_t i = 0; i < batch.tokens; i++) {
        for (int64_t j = 0; j < batch.vocab; j++) {
            int64_t at = i * batch.vocab + j;
            out->gradient[at] = host_element_load(row_type(batch.type),
                                                  now.data(), i * stride + j);
            memcpy(&out->bits[at], now.data() + (i * stride + j) * bytes,
                   (size_t)bytes);
        }
        int64_t from = (i * stride + batch.vocab) * bytes;
        int64_t to = (i + 1) * stride * bytes;
        if (to > (int64_t)now.size())
            to = (int64_t)now.size();
        if (to > from && memcmp(now.data() + from, buffer->host() + from,
                                (size_t)(to - from)) != 0)
            kept = false;
    }
    return kept;
}

struct outcome batch_run(const struct batch &batch, const struct how &how)
{
    struct setup setup(batch, how);
    struct kernel_job job = setup.job();
    struct outcome out = {};
    std::vector<char> bytes;

    if (how.counting_alone)
        setup.allow_others(false);
    if (how.way == WAY_FUSED) {
        setup.run(RUN_LOSS_GRAD, job);
    } else if (how.way == WAY_PARALLEL) {
        setup.parallel();
    } else {
        if (how.way == WAY_TWO)
            job.parts = (struct kernel_parts *)setup.parts.at();
        setup.run_loss(job);
        if (how.way == WAY_TWO)
            setup.run(RUN_BACKWARD, job);
    }
    if (how.counting_alone)
        setup.allow_others(true);
    out.untouched = true;
    if (!setup.record.get(&bytes))
        out.untouched = false;
    memcpy(&out.record, bytes.data(), sizeof(out.record));
    if (!setup.nll.get(&bytes))
        out.untouched = false;
    out.nll.resize((size_t)batch.tokens);
    if (!bytes.empty())
        memcpy(out.nll.data(), bytes.data(), bytes.size());
    if (!setup.parts.get(&out.parts) || !setup.shards.get(&bytes))
        out.untouched = false;
    out.parts.insert(out.parts.end(), bytes.begin(), bytes.end());
    if (how.way == WAY_LOSS || how.in_place) { // the gradient is elsewhere
        if (!setup.gradient.get(&bytes) ||
            !same(bytes.data(), setup.gradient.host(), bytes.size()))
            out.untouched = false;
    }
    if (how.way == WAY_LOSS || !how.in_place) {
        if (!setup.logits.get(&bytes) ||
            !same(bytes.data(), setup.logits.host(), bytes.size()))
            out.untouched = false;
    }
    if (how.way != WAY_LOSS &&
        !rows_take(batch, how.in_place ? batch.stride : batch.gradient_stride,
                   how.in_place ? &setup.logits : &setup.gradient, &out))
        out.untouched = false;
    return out;
}

bool outcome_equal(const struct outcome &a, const struct outcome &b)
{
    return memcmp(&a.record, &b.record, sizeof(a.record)) == 0 &&
           a.nll.size() == b.nll.size() &&
           same(a.nll.data(), b.nll.data(), a.nll.size() * 4) &&
           (a.bits.empty() || b.bits.empty() || a.bits == b.bits);
}

float element_round(enum kernel_element type, long double x)
{
    float out;
    char memory[4];

    if (type == KERNEL_F32)
        return (float)x;
    // To odd first, so that the second rounding is the only one.
    out = (float)x;
    if ((long double)out != x && out == out && !isinf(out)) {
        uint32_t bits = host_bits_of_float(out);
        if (fabsl((long double)out) > fabsl(x))
            bits--;
        out = host_float_of_bits(bits | 1);
    }
    host_element_store(row_type(type), memory, 0, out);
    return host_element_load(row_type(type), memory, 0);
}

void element_store(enum kernel_element type, float x, char *at)
{
    host_element_store(row_type(type), at, 0, x);
}
