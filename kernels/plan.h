// SPDX-License-Identifier: BSD-3-Clause
// Which rows a cluster takes in `loss_grad`: of the rows that count every nth,
// and of the others likewise, so that all have as much to read and to write
// whichever tokens are ignored.
//
// It is known before the first row is read. While rows are under way nothing
// is loaded but logits: a load waits behind the stores of a row's gradient.
#ifndef KERNELS_PLAN_H
#define KERNELS_PLAN_H

#include "kernels/launch.h"
#include "token.h"

// A row that counts, and what is known of its token.
struct planned {
    int row;
    int label;
    float weight;
};

// Of at most 32 KERNEL_PLAN_WORDS rows from `begin` on. In shared memory, one a
// block; all blocks of a cluster have the same.
struct plan {
    struct planned counting[KERNEL_PLAN_ROWS];
    int others[KERNEL_PLAN_ROWS]; // rows; ~row where the token is a bad one
    int counting_count, other_count;
    int total; // rows of all clusters that count
    int reserved;
    uint32_t votes[KERNEL_PLAN_WORDS]; // a bit a row: does it count?
    int before[KERNEL_PLAN_WORDS];     // rows that count, before each of these
};

static_assert(sizeof(struct plan) == KERNEL_PLAN_BYTES, "launch.h has room");

// Where a plan begins, and how many rows before it count: that tells whose turn
// it is in the round of clusters.
struct plan_position {
    int begin;
    int counting;
};

// So many rows at most: a cluster's share of either kind has room, too.
GPU_FN int plan_rows(int clusters)
{
    const int64_t rows = (int64_t)KERNEL_PLAN_ROWS * clusters;

    return rows < 32 * KERNEL_PLAN_WORDS ? (int)rows : 32 * KERNEL_PLAN_WORDS;
}

#define PLAN_AHEAD 8 // words, whose labels a warp loads at once

GPU_FN void plan_vote(struct plan *plan, const struct kernel_labels &labels,
                      int begin, int end)
{
    const int warps = gpu_threads() / GPU_WARP;
    const int words = (end - begin + 31) / 32;

    for (int word = gpu_warp(); word < words; word += PLAN_AHEAD * warps) {
        bool counts[PLAN_AHEAD];
#pragma unroll
        for (int i = 0; i < PLAN_AHEAD; i++) {
            const int64_t row =
                begin + 32 * (int64_t)(word + i * warps) + gpu_lane();
            counts[i] =
                row < end && token_load(labels, row).kind == TOKEN_COUNTS;
        }
#pragma unroll
        for (int i = 0; i < PLAN_AHEAD; i++) {
            const uint32_t votes = gpu_ballot(counts[i]);
            if (gpu_lane() == 0 && word + i * warps < words)
                plan->votes[word + i * warps] = votes;
        }
    }
}

// By one warp: a lane adds up the words of its own, then lanes by butterflies.
GPU_FN void plan_add_up(struct plan *plan, int words)
{
    const int own = (words + GPU_WARP - 1) / GPU_WARP;
    const int first = gpu_lane() * own;
    uint32_t total = 0, before = 0;

    for (int w = first; w < first + own && w < words; w++)
        total += (uint32_t)gpu_count_bits(plan->votes[w]);
    for (int mask = 1; mask < GPU_WARP; mask *= 2) {
        const uint32_t other = gpu_shuffle_xor(total, mask);
        if ((gpu_lane() & mask) != 0)
            before += other;
        total += other;
    }
    if (gpu_lane() == 0)
        plan->total = (int)total;
    for (int w = first; w < first + own && w < words; w++) {
        plan->before[w] = (int)before;
        before += (uint32_t)gpu_count_bits(plan->votes[w]);
    }
}

// Row number `ordinal` of those that count, or of the others.
GPU_FN int plan_find(const struct plan &plan, int words, int ordinal,
                     bool counting)
{
    int low = 0, high = words; // it is in a word of [low, high)

    while (high - low > 1) {
        const int middle = (low + high) / 2;
        const int before =
            counting ? plan.before[middle] : 32 * middle - plan.before[middle];
        if (before <= ordinal)
            low = middle;
        else
            high = middle;
    }
    uint32_t bits = counting ? plan.votes[low] : ~plan.votes[low];
    int left =
        ordinal - (counting ? plan.before[low] : 32 * low - plan.before[low]);
    int bit = 0;
    for (int half = 16; half > 0; half /= 2) {
        const int lower = gpu_count_bits(bits & ((1u << half) - 1));
        if (left >= lower) {
            left -= lower;
            bits >>= half;
            bit += half;
        }
    }
    return 32 * low + bit;
}

// Of `count` rows of a kind, the first of which is number `before` in the round
// of clusters: this cluster's first, and how many are its own.
struct plan_share {
    int first, count;

    GPU_FN plan_share(int total, int before, int cluster, int clusters)
        : first((cluster - before % clusters + clusters) % clusters),
          count(total > first ? (total - first - 1) / clusters + 1 : 0)
    {
    }
};

// By a whole block: plans [at.begin, end), and returns where the next plan
// begins. All threads must be done with the last one.
GPU_FN struct plan_position plan_make(struct plan *plan,
                                      const struct kernel_labels &labels,
                                      const struct plan_position &at, int end,
                                      int cluster, int clusters)
{
    const int words = (end - at.begin + 31) / 32;

    plan_vote(plan, labels, at.begin, end);
    gpu_block_barrier();
    if (gpu_warp() == 0)
        plan_add_up(plan, words);
    gpu_block_barrier();
    const int total = plan->total;
    const struct plan_share counting(total, at.counting, cluster, clusters);
    const struct plan_share others(end - at.begin - total,
                                   at.begin - at.counting, cluster, clusters);
    for (int i = gpu_thread(); i < counting.count; i += gpu_threads()) {
        const int row =
            at.begin +
            plan_find(*plan, words, counting.first + i * clusters, true);
        const struct token token = token_load(labels, row);
        plan->counting[i] = {row, (int)token.label, token.weight};
    }
    for (int i = gpu_thread(); i < others.count; i += gpu_threads()) {
        const int row =
            at.begin +
            plan_find(*plan, words, others.first + i * clusters, false);
        plan->others[i] =
            token_load(labels, row).kind == TOKEN_BAD ? ~row : row;
    }
    if (gpu_thread() == 0) {
        plan->counting_count = counting.count;
        plan->other_count = others.count;
    }
    gpu_block_barrier();
    return {end, at.counting + total};
}

#endif
