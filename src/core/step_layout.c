// SPDX-License-Identifier: BSD-3-Clause
// See step_layout.h.
#include "core/step_layout.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collective/agreement.h"
#include "core/error.h"
#include "core/step_stream.h"

// What must be equal at all ranks, as it travels.
struct layout {
    int64_t channel_count;
    int64_t max_lanes;
    int64_t order;
    int64_t convention;
    int64_t average_ranks;
    int64_t replicas;
    int64_t on_stream;
    double schedule_divisor;
    struct {
        int64_t vocab;
        int64_t ignore_index;
        double coefficient;
        double label_smoothing, z_loss, soft_cap, temperature;
    } channels[TALLY_CHANNELS_MAX];
};

// What the first exchange carries: enough to see that all is equal.
struct layout_digest {
    uint64_t digest;
    uint32_t next_tag_space;
    uint32_t reserved;
};

static void write_layout(const tally_step_t *step, struct layout *layout)
{
    memset(layout, 0, sizeof(*layout));
    layout->channel_count = step->channel_count;
    layout->max_lanes = step->max_lanes;
    layout->order = step->order;
    layout->convention = step->convention;
    layout->average_ranks = step->group->average_ranks;
    layout->replicas = step->group->replica.replicas;
    layout->on_stream = step_stream_wanted(step);
    layout->schedule_divisor = step->schedule_divisor;
    for (uint32_t k = 0; k < step->channel_count; k++) {
        const struct step_channel *channel = &step->channels[k];
        layout->channels[k].vocab = channel->vocab;
        layout->channels[k].ignore_index = channel->ignore_index;
        layout->channels[k].coefficient = channel->coefficient;
        layout->channels[k].label_smoothing =
            (double)channel->shaping.smoothing;
        layout->channels[k].z_loss = (double)channel->shaping.z_loss;
        layout->channels[k].soft_cap = (double)channel->shaping.cap;
        layout->channels[k].temperature = (double)channel->temperature;
    }
}

// FNV-1a.
static uint64_t digest_of(const struct layout *layout)
{
    const unsigned char *bytes = (const unsigned char *)layout;
    uint64_t digest = 14695981039346656037u;

    for (size_t i = 0; i < sizeof(*layout); i++)
        digest = (digest ^ bytes[i]) * 1099511628211u;
    return digest;
}

static tally_status_t differ(const char *what, double value, int32_t rank,
                             double root_value, int32_t root)
{
    return core_fail(TALLY_ERR_MISMATCH,
                     "%s is %.17g at rank %d and %.17g at "
                     "rank %d",
                     what, value, (int)rank, root_value, (int)root);
}

// The first difference between two layouts, as a sentence.
static tally_status_t compare_layouts(const struct layout *layout, int32_t rank,
                                      const struct layout *first, int32_t root)
{
    const struct {
        const char *what;
        double value, root_value;
    } scalars[] = {
        {"channel_count", (double)layout->channel_count,
         (double)first->channel_count},
        {"max_lanes", (double)layout->max_lanes, (double)first->max_lanes},
        {"order", (double)layout->order, (double)first->order},
        {"convention", (double)layout->convention, (double)first->convention},
        {"average_ranks", (double)layout->average_ranks,
         (double)first->average_ranks},
        {"replicas", (double)layout->replicas, (double)first->replicas},
        {"the stream's own reduction (params.device, nccl_comm)",
         (double)layout->on_stream, (double)first->on_stream},
        {"schedule_divisor", layout->schedule_divisor, first->schedule_divisor},
    };

    for (size_t i = 0; i < sizeof(scalars) / sizeof(scalars[0]); i++)
        if (scalars[i].value != scalars[i].root_value)
            return differ(scalars[i].what, scalars[i].value, rank,
                          scalars[i].root_value, root);
    for (int k = 0; k < (int)first->channel_count; k++) {
        char what[64];
        const struct {
            const char *name;
            double value, root_value;
        } members[] = {
            {"vocab", (double)layout->channels[k].vocab,
             (double)first->channels[k].vocab},
            {"ignore_index", (double)layout->channels[k].ignore_index,
             (double)first->channels[k].ignore_index},
            {"coefficient", layout->channels[k].coefficient,
             first->channels[k].coefficient},
            {"label_smoothing", layout->channels[k].label_smoothing,
             first->channels[k].label_smoothing},
            {"z_loss", layout->channels[k].z_loss, first->channels[k].z_loss},
            {"soft_cap", layout->channels[k].soft_cap,
             first->channels[k].soft_cap},
            {"temperature", layout->channels[k].temperature,
             first->channels[k].temperature},
        };
        for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
            if (members[i].value == members[i].root_value)
                continue;
            snprintf(what, sizeof(what), "%s of channel %d", members[i].name,
                     k);
            return differ(what, members[i].value, rank, members[i].root_value,
                          root);
        }
    }
    return TALLY_OK;
}

static tally_status_t exchange_layouts(const tally_step_t *step,
                                       const struct layout *mine)
{
    tally_group_t *group = step->group;
    tally_status_t status;
    struct layout *layouts =
        calloc((size_t)group->members.count, sizeof(*layouts));

    if (layouts == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for %d ranks",
                         (int)group->members.count);
    status = exchange_allgather(group->exchange, &group->members, mine, layouts,
                                sizeof(*mine));
    for (int32_t i = 1; status == TALLY_OK && i < group->members.count; i++)
        status = compare_layouts(&layouts[i], group->ranks[i], &layouts[0],
                                 group->ranks[0]);
    free(layouts);
    return status;
}

uint64_t step_layout_digest(const tally_step_t *step)
{
    struct layout layout;

    write_layout(step, &layout);
    return digest_of(&layout);
}

tally_status_t step_layout_agree(tally_step_t *step, tally_status_t own,
                                 uint16_t *tag_space)
{
    tally_group_t *group = step->group;
    struct layout layout;
    struct layout_digest mine = {.next_tag_space =
                                     group->tally->next_tag_space};
    struct layout_digest *digests;
    bool equal = true;

    if (own == TALLY_OK) {
        write_layout(step, &layout);
        mine.digest = digest_of(&layout);
    }
    digests = calloc((size_t)group->members.count, sizeof(*digests));
    if (digests == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for %d ranks",
                         (int)group->members.count);
    tally_status_t status = agreement_gather(group->exchange, &group->members,
                                             own, &mine, digests, sizeof(mine));
    uint32_t space = 0;
    for (int32_t i = 0; status == TALLY_OK && i < group->members.count; i++) {
        equal = equal && digests[i].digest == digests[0].digest;
        if (digests[i].next_tag_space > space)
            space = digests[i].next_tag_space;
    }
    free(digests);
    if (status == TALLY_OK && !equal)
        status = exchange_layouts(step, &layout);
    if (status != TALLY_OK)
        return status;
    if (space + 1 >= TAG_SPACES)
        return core_fail(TALLY_ERR_UNSUPPORTED,
                         "more than %u steps and groups were made in this "
                         "process",
                         TAG_SPACES);
    // The second is for the decisions of a replica group.
    group->tally->next_tag_space = space + (step->replica != NULL ? 2 : 1);
    *tag_space = (uint16_t)space;
    return TALLY_OK;
}
