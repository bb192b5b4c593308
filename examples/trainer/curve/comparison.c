// SPDX-License-Identifier: BSD-3-Clause
// See comparison.h.
#include "comparison.h"

#include <inttypes.h>
#include <math.h>
#include <tally/tally.h>

#define TABLE_EVERY 25 // steps between lines of the table

static bool loss_sums_equal(const struct curve_row *left,
                            const struct curve_row *right)
{
    return left->loss_hi == right->loss_hi && left->loss_lo == right->loss_lo;
}

// |value - reference| / reference; 0 where both are 0.
static double relative(double value, double reference)
{
    double difference = fabs(value - reference);

    return difference == 0 ? 0 : difference / fabs(reference);
}

// A step without tokens: nothing but zeros, and Tally says so.
static bool is_empty_step(const struct curve_row *row)
{
    return row->n_total == 0 && row->loss_hi == 0 && row->loss_lo == 0 &&
           row->mean == 0 && (row->flags & TALLY_STEP_EMPTY) != 0;
}

// NaN is larger than anything, and stays: it must not pass for a small
// difference.
static bool larger(double value, double than)
{
    return !isnan(than) && !(value <= than);
}

static void silent_count(struct comparison *comparison, int64_t i)
{
    const struct curve_row *balanced = &comparison->balanced[i];
    const struct curve_row *reference = &comparison->reference[i];
    int32_t silent = reference->silent;

    if (silent == 0)
        return;
    if (silent < comparison->ranks) {
        comparison->partly_silent++;
        return;
    }
    comparison->all_silent++;
    if (!is_empty_step(balanced) || !is_empty_step(reference))
        comparison->wrong_silent++;
}

static void difference_add(struct comparison *comparison, int64_t i)
{
    const struct curve_row *balanced = &comparison->balanced[i];
    const struct curve_row *reference = &comparison->reference[i];
    double difference = relative(balanced->mean, reference->mean);

    if (larger(relative(balanced->heldout, reference->heldout), difference) &&
        !(isnan(balanced->heldout) && isnan(reference->heldout)))
        difference = relative(balanced->heldout, reference->heldout);
    if (larger(difference, comparison->difference_max))
        comparison->difference_max = difference;
}

static void naive_add(struct comparison *comparison, int64_t i)
{
    const struct curve_row *reference = &comparison->reference[i];
    double naive = relative(comparison->naive[i].mean, reference->mean);

    if (larger(naive, comparison->naive_max))
        comparison->naive_max = naive;
    if (reference->silent == 0) {
        comparison->naive_average += naive;
        comparison->spoken++;
    }
}

void comparison_make(struct comparison *comparison)
{
    for (int64_t i = 0; i < comparison->steps; i++) {
        const struct curve_row *balanced = &comparison->balanced[i];
        const struct curve_row *reference = &comparison->reference[i];
        comparison->other_totals +=
            balanced->n_total != reference->n_total ||
            comparison->naive[i].n_total != reference->n_total;
        comparison->sums_equal += loss_sums_equal(balanced, reference);
        silent_count(comparison, i);
        difference_add(comparison, i);
        if (reference->n_total > 0)
            naive_add(comparison, i);
    }
    comparison->first_sum_equal =
        comparison->steps > 0 &&
        loss_sums_equal(comparison->balanced, comparison->reference);
    if (comparison->spoken > 0)
        comparison->naive_average /= (double)comparison->spoken;
}

bool comparison_holds(const struct comparison *comparison)
{
    return comparison->steps > 0 && comparison->other_totals == 0 &&
           comparison->first_sum_equal &&
           comparison->difference_max <= COMPARISON_TOLERANCE &&
           comparison->partly_silent > 0 && comparison->all_silent > 0 &&
           comparison->wrong_silent == 0 &&
           comparison->naive_average >= COMPARISON_VISIBLE;
}

static void silent_print(int32_t silent, int32_t ranks, FILE *out)
{
    if (silent == ranks)
        fputs("  no label on any rank", out);
    else if (silent > 0)
        fprintf(out, "  no label on %d of %d ranks", silent, ranks);
    fputc('\n', out);
}

static void row_print(const struct comparison *comparison, int64_t i, FILE *out)
{
    const struct curve_row *reference = &comparison->reference[i];
    double balanced = comparison->balanced[i].mean;
    double naive = comparison->naive[i].mean;

    fprintf(out, "%5" PRId64 " %8" PRId64 "  %11.8f  %11.8f  ", reference->step,
            reference->n_total, balanced, reference->mean);
    fprintf(out, "%9.1e  %11.8f  ", relative(balanced, reference->mean), naive);
    if (reference->mean != 0)
        fprintf(out, "%+8.2f %%", 100 * (naive / reference->mean - 1));
    else
        fprintf(out, "%10s", "-");
    silent_print(reference->silent, comparison->ranks, out);
}

static void table_print(const struct comparison *comparison, FILE *out)
{
    fprintf(out, "%5s %8s  %11s  %11s  %9s  %11s  %10s\n", "step", "N_total",
            "a balanced", "b reference", "|a-b|/b", "c naive", "c/b-1");
    for (int64_t i = 0; i < comparison->steps; i++)
        if (i == 0 || (i + 1) % TABLE_EVERY == 0 ||
            i + 1 == comparison->steps || comparison->reference[i].silent > 0)
            row_print(comparison, i, out);
}

static void heldout_print(const struct comparison *comparison, FILE *out)
{
    int64_t i = comparison->steps - 1;

    while (i >= 0 && isnan(comparison->reference[i].heldout))
        i--;
    if (i < 0)
        return;
    double reference = comparison->reference[i].heldout;
    double naive = comparison->naive[i].heldout;
    fprintf(out,
            "held-out loss after step %" PRId64
            ": (a) %.8f  (b) %.8f  (c) %.8f, %+.2f %%\n",
            comparison->reference[i].step, comparison->balanced[i].heldout,
            reference, naive, 100 * (naive / reference - 1));
}

static const char *verdict(bool ok)
{
    return ok ? "ok   " : "WRONG";
}

static void first_sum_print(const struct comparison *comparison, FILE *out)
{
    fprintf(out,
            "%s loss sum of step 1 equal to the bit: (a) %" PRIx64 ":%08" PRIx64
            " (b) %" PRIx64 ":%08" PRIx64 " (equal in %" PRId64 " steps)\n",
            verdict(comparison->first_sum_equal),
            (uint64_t)comparison->balanced[0].loss_hi,
            (uint64_t)comparison->balanced[0].loss_lo,
            (uint64_t)comparison->reference[0].loss_hi,
            (uint64_t)comparison->reference[0].loss_lo, comparison->sums_equal);
}

void comparison_print(const struct comparison *comparison, FILE *out)
{
    if (comparison->steps == 0) {
        fprintf(out, "%s there is no step to compare\n", verdict(false));
        return;
    }
    table_print(comparison, out);
    heldout_print(comparison, out);
    fprintf(out, "%s N_total equal in %" PRId64 " of %" PRId64 " steps\n",
            verdict(comparison->other_totals == 0),
            comparison->steps - comparison->other_totals, comparison->steps);
    first_sum_print(comparison, out);
    fprintf(out,
            "%s largest relative difference of (a) and (b) over %" PRId64
            " steps: %.1e (%.0e is allowed)\n",
            verdict(comparison->difference_max <= COMPARISON_TOLERANCE),
            comparison->steps, comparison->difference_max,
            COMPARISON_TOLERANCE);
    fprintf(out,
            "%s %" PRId64 " steps without a label on some rank, %" PRId64
            " without any: loss 0, scale 0, no NaN\n",
            verdict(comparison->partly_silent > 0 &&
                    comparison->all_silent > 0 &&
                    comparison->wrong_silent == 0),
            comparison->partly_silent, comparison->all_silent);
    fprintf(
        out,
        "%s (c) differs from (b) by %.1f %% on average where all ranks have "
        "labels, by up to %.1f %% elsewhere\n",
        verdict(comparison->naive_average >= COMPARISON_VISIBLE),
        100 * comparison->naive_average, 100 * comparison->naive_max);
}
