// SPDX-License-Identifier: BSD-3-Clause
// See allreduce.h. It lines up the stages; what a stage does is in node.h and
// leaders.h.
#include "collective/allreduce.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "collective/agreement.h"
#include "collective/leaders.h"
#include "collective/node.h"
#include "collective/segment.h"
#include "core/error.h"
#include "numeric/record.h"

// Up to so many ranks of a node each read all slots; beyond, the leader reads
// and writes the result, which is two hops but not n * n lines.
#define WHOLE_MAX 16

// What a stage returns: OK, then the next one; NOT_YET; an error.
typedef tally_status_t (*stage_fn)(struct allreduce *allreduce);

#define STAGES_MAX 4

enum role {
    ROLE_WHOLE,  // reads the slots of all ranks of the group
    ROLE_LEADER, // of a node
    ROLE_MEMBER, // of a node with a leader
    ROLES
};

struct allreduce {
    const stage_fn *stages;
    const stage_fn *stage;  // under way; *stage is NULL: complete
    tally_status_t failure; // OK: alive
    uint64_t sequence;      // of the reduction under way
    const struct topology *topology;
    struct allreduce_params params;
    size_t lanes; // 8 * records + max_lanes
    struct segment segment;
    struct node *node;       // NULL: no other rank on this node
    struct leaders *leaders; // NULL: one node, or not its leader
    int64_t total[];         // what is added up, then the result
};

static tally_status_t stage_gather(struct allreduce *allreduce)
{
    if (allreduce->node == NULL)
        return TALLY_OK;
    return node_gather(allreduce->node, allreduce->total);
}

static tally_status_t stage_lead(struct allreduce *allreduce)
{
    tally_status_t status;

    if (allreduce->leaders == NULL)
        return TALLY_OK;
    status = leaders_progress(allreduce->leaders, allreduce->total);
    if (allreduce->node != NULL)
        node_remote_tell(allreduce->node, leaders_awaited(allreduce->leaders));
    return status;
}

// Equal bits everywhere: whatever the order of additions, folded lanes are the
// same.
static tally_status_t stage_fold(struct allreduce *allreduce)
{
    for (uint32_t i = 0; i < allreduce->params.records; i++) {
        int64_t *lanes = allreduce->total + (size_t)i * NUMERIC_LANES;

        numeric_record_fold((struct numeric_record *)lanes);
    }
    return TALLY_OK;
}

static tally_status_t stage_publish(struct allreduce *allreduce)
{
    if (allreduce->node != NULL)
        node_publish(allreduce->node, allreduce->total);
    return TALLY_OK;
}

static tally_status_t stage_take(struct allreduce *allreduce)
{
    return node_take(allreduce->node, allreduce->total);
}

static const stage_fn role_stages[ROLES][STAGES_MAX + 1] = {
    [ROLE_WHOLE] = {stage_gather, stage_fold},
    [ROLE_LEADER] = {stage_gather, stage_lead, stage_fold, stage_publish},
    [ROLE_MEMBER] = {stage_take},
};

static const stage_fn complete[] = {NULL};

static enum role role_of(const struct topology *topology)
{
    if (topology->node_count == 1 && topology->local_size <= WHOLE_MAX)
        return ROLE_WHOLE;
    return topology->local_index == 0 ? ROLE_LEADER : ROLE_MEMBER;
}

// What must be equal at all ranks, and where the segment of the rank's node is.
struct offer {
    uint32_t records;
    uint32_t max_lanes;
    uint32_t radix;
    uint32_t tag_space;
    uint32_t crowded;                 // need not be equal
    char segment[SEGMENT_NAME_BYTES]; // of leaders; "": none
};

static void offer_fill(const struct allreduce *allreduce, struct offer *offer)
{
    memset(offer, 0, sizeof(*offer));
    offer->records = allreduce->params.records;
    offer->max_lanes = allreduce->params.max_lanes;
    offer->radix = allreduce->params.radix;
    offer->tag_space = allreduce->params.tag_space;
    offer->crowded = allreduce->params.crowded;
    memcpy(offer->segment, allreduce->segment.name, SEGMENT_NAME_BYTES);
}

static tally_status_t offers_compare(const struct exchange_group *group,
                                     const struct offer *offers)
{
    const struct offer *first = &offers[0];

    for (int32_t i = 1; i < group->count; i++) {
        const struct offer *offer = &offers[i];

        if (offer->records == first->records &&
            offer->max_lanes == first->max_lanes &&
            offer->radix == first->radix &&
            offer->tag_space == first->tag_space)
            continue;
        return core_fail(
            TALLY_ERR_MISMATCH,
            "rank %d reduces %u records and %u maxima (radix %u, tag %u), rank "
            "%d %u and %u (radix %u, tag %u)",
            (int)group->ranks[0], first->records, first->max_lanes,
            first->radix, first->tag_space, (int)group->ranks[i],
            offer->records, offer->max_lanes, offer->radix, offer->tag_space);
    }
    return TALLY_OK;
}

static struct node_shape shape_of(const struct allreduce *allreduce)
{
    return (struct node_shape){
        .local_size = allreduce->topology->local_size,
        .records = allreduce->params.records,
        .max_lanes = allreduce->params.max_lanes,
    };
}

// The leader's part before the names are exchanged.
static tally_status_t segment_offer(struct allreduce *allreduce)
{
    const struct topology *topology = allreduce->topology;
    struct node_shape shape = shape_of(allreduce);

    if (topology->local_size == 1 || topology->local_index != 0)
        return TALLY_OK;
    return segment_create(node_bytes(&shape), &allreduce->segment);
}

// Everybody's part after it.
static tally_status_t stages_open(struct allreduce *allreduce,
                                  const struct offer *offers)
{
    const struct topology *topology = allreduce->topology;
    struct node_params node = {.shape = shape_of(allreduce)};
    int32_t leader = topology->leader_of[topology->node];
    tally_status_t status = TALLY_OK;

    if (topology->node_count > 1 && topology->local_index == 0)
        status = leaders_create(&allreduce->params, &allreduce->leaders);
    if (status != TALLY_OK || topology->local_size == 1)
        return status;
    if (topology->local_index != 0)
        status = segment_open(offers[leader].segment, node_bytes(&node.shape),
                              &allreduce->segment);
    if (status != TALLY_OK)
        return status;
    node.local_index = topology->local_index;
    node.gathers = role_of(topology) != ROLE_MEMBER;
    node.memory = allreduce->segment.memory;
    return node_create(&node, &allreduce->node);
}

// All ranks come through both exchanges, however they fare, until one of the
// exchanges tells all of them of a failure.
static tally_status_t allreduce_agree(struct allreduce *allreduce)
{
    struct exchange *exchange = allreduce->params.exchange;
    struct exchange_group *group = allreduce->params.group;
    struct offer offer;
    tally_status_t status = TALLY_OK;

    struct offer *offers = calloc((size_t)group->count, sizeof(*offers));
    if (offers == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for %d ranks",
                         (int)group->count);
    status = segment_offer(allreduce);
    offer_fill(allreduce, &offer);
    status = agreement_gather(exchange, group, status, &offer, offers,
                              sizeof(offer));
    if (status == TALLY_OK)
        status = offers_compare(group, offers);
    for (int32_t i = 0; status == TALLY_OK && i < group->count; i++)
        if (offers[i].crowded != 0)
            allreduce->params.crowded = true;
    if (status == TALLY_OK) {
        status = stages_open(allreduce, offers);
        status = agreement_gather(exchange, group, status, NULL, NULL, 0);
    }
    segment_unlink(&allreduce->segment);
    free(offers);
    return status;
}

tally_status_t allreduce_create(const struct allreduce_params *params,
                                struct allreduce **out)
{
    size_t lanes = (size_t)params->records * NUMERIC_LANES + params->max_lanes;
    struct allreduce *allreduce;
    tally_status_t status;

    assert(params->records >= 1);
    assert(params->topology->node_count == 1 || params->links != NULL);
    allreduce = calloc(1, sizeof(*allreduce) + lanes * sizeof(int64_t));
    if (allreduce == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for %zu lanes", lanes);
    allreduce->params = *params;
    allreduce->topology = params->topology;
    allreduce->lanes = lanes;
    allreduce->stages = role_stages[role_of(params->topology)];
    allreduce->stage = complete;
    status = allreduce_agree(allreduce);
    if (status != TALLY_OK) {
        allreduce_free(allreduce);
        return status;
    }
    *out = allreduce;
    return TALLY_OK;
}

void allreduce_free(struct allreduce *allreduce)
{
    if (allreduce == NULL)
        return;
    leaders_free(allreduce->leaders);
    node_free(allreduce->node);
    segment_close(&allreduce->segment);
    free(allreduce);
}

void allreduce_start(struct allreduce *allreduce, const int64_t *lanes)
{
    if (allreduce->failure != TALLY_OK)
        return;
    assert(*allreduce->stage == NULL);
    memcpy(allreduce->total, lanes, allreduce->lanes * sizeof(int64_t));
    allreduce->sequence++;
    if (allreduce->node != NULL)
        node_write(allreduce->node, allreduce->sequence, lanes);
    if (allreduce->leaders != NULL)
        leaders_start(allreduce->leaders, allreduce->sequence);
    allreduce->stage = allreduce->stages;
}

tally_status_t allreduce_progress(struct allreduce *allreduce)
{
    if (allreduce->failure != TALLY_OK)
        return allreduce->failure;
    while (*allreduce->stage != NULL) {
        tally_status_t status = (*allreduce->stage)(allreduce);

        if (status == TALLY_NOT_YET)
            return status;
        if (status != TALLY_OK) {
            allreduce->failure = status;
            return status;
        }
        allreduce->stage++;
    }
    return TALLY_OK;
}

tally_status_t allreduce_arm(struct allreduce *allreduce,
                             struct allreduce_source *out)
{
    *out = (struct allreduce_source){.word = NULL};
    if (allreduce->failure != TALLY_OK || *allreduce->stage == NULL)
        return TALLY_NOT_YET;
    if (*allreduce->stage == stage_lead)
        return TALLY_OK;
    return node_arm(allreduce->node, &out->word, &out->seen);
}

const int64_t *allreduce_result_borrow(const struct allreduce *allreduce)
{
    return allreduce->total;
}

int32_t allreduce_awaited(const struct allreduce *allreduce)
{
    const struct topology *topology = allreduce->topology;
    int32_t rank = -1;

    if (*allreduce->stage == NULL)
        return -1;
    if (allreduce->node != NULL) {
        int32_t local = node_awaited(allreduce->node);

        if (local >= 0)
            return topology->local_ranks[local];
    }
    if (allreduce->leaders != NULL)
        return leaders_awaited(allreduce->leaders);
    // All of the node have come: then it is the leader, or whom it waits for.
    if (allreduce->node != NULL)
        rank = node_remote(allreduce->node);
    return rank >= 0 ? rank : topology->leader_of[topology->node];
}
