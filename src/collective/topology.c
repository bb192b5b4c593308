// SPDX-License-Identifier: BSD-3-Clause
// See topology.h. In each round the lowest rank without a node, of those that
// might share memory, makes a segment with a nonce that does not travel; the
// others tell what they read there, and who tells the nonce is of its node. Who
// does not goes on to the next round. A round gives at least its makers a node,
// so there is an end.
#include "collective/topology.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "collective/agreement.h"
#include "collective/segment.h"
#include "collective/topology_self.h"
#include "core/error.h"

#define NONCE_BYTES 16

#define UNKNOWN (-1)

struct proof {
    unsigned char nonce[NONCE_BYTES];
    uint32_t read; // 1: the nonce was read
};

// One detection. The arrays are [group->count] and equal at all ranks.
struct detection {
    struct exchange *exchange;
    struct exchange_group *group;
    struct topology_self *selves;
    int32_t *lead;  // the lowest rank of the node; UNKNOWN
    int32_t *maker; // in this round: whose segment a rank tries; UNKNOWN
    char (*names)[SEGMENT_NAME_BYTES];
    struct proof *proofs;
};

static void detection_free(struct detection *detection)
{
    free(detection->proofs);
    free(detection->names);
    free(detection->maker);
    free(detection->lead);
    free(detection->selves);
}

static tally_status_t detection_allocate(struct detection *detection)
{
    size_t count = (size_t)detection->group->count;

    detection->selves = calloc(count, sizeof(*detection->selves));
    detection->lead = calloc(count, sizeof(*detection->lead));
    detection->maker = calloc(count, sizeof(*detection->maker));
    detection->names = calloc(count, sizeof(*detection->names));
    detection->proofs = calloc(count, sizeof(*detection->proofs));
    if (detection->selves == NULL || detection->lead == NULL ||
        detection->maker == NULL || detection->names == NULL ||
        detection->proofs == NULL) {
        detection_free(detection);
        return core_fail(TALLY_ERR_MEMORY,
                         "no memory for the nodes of %zu ranks", count);
    }
    for (size_t i = 0; i < count; i++)
        detection->lead[i] = UNKNOWN;
    return TALLY_OK;
}

static bool might_share(const struct topology_self *a,
                        const struct topology_self *b)
{
    return !a->alone && !b->alone && a->hint == b->hint && a->name == b->name;
}

// Sets maker[] for a round; a rank without a partner gets its node at once.
// Returns whether anybody has something to prove.
static bool round_plan(struct detection *detection)
{
    int32_t count = detection->group->count;
    bool any = false;

    for (int32_t i = 0; i < count; i++)
        detection->maker[i] = detection->lead[i] == UNKNOWN ? i : UNKNOWN;
    for (int32_t i = 0; i < count; i++) {
        bool company = false;

        if (detection->maker[i] != i)
            continue;
        for (int32_t j = i + 1; j < count; j++) {
            if (detection->maker[j] != j ||
                !might_share(&detection->selves[i], &detection->selves[j]))
                continue;
            detection->maker[j] = i;
            company = true;
        }
        if (!company) {
            detection->lead[i] = i;
            detection->maker[i] = UNKNOWN;
        }
        any |= company;
    }
    return any;
}

static tally_status_t nonce_make(struct segment *segment, struct proof *proof)
{
    tally_status_t status = segment_create(NONCE_BYTES, segment);

    if (status != TALLY_OK)
        return status;
    if (getrandom(proof->nonce, NONCE_BYTES, 0) != NONCE_BYTES) {
        segment_close(segment);
        return core_fail(TALLY_ERR_SYSTEM, "no random nonce: %s",
                         strerror(errno));
    }
    memcpy(segment->memory, proof->nonce, NONCE_BYTES);
    proof->read = 1;
    return TALLY_OK;
}

// A segment that cannot be opened is an answer, not an error.
static void nonce_read(const char *name, struct proof *proof)
{
    struct segment segment;

    if (memchr(name, '\0', SEGMENT_NAME_BYTES) == NULL ||
        segment_open(name, NONCE_BYTES, &segment) != TALLY_OK)
        return;
    memcpy(proof->nonce, segment.memory, NONCE_BYTES);
    proof->read = 1;
    segment_close(&segment);
}

static void round_judge(struct detection *detection)
{
    for (int32_t i = 0; i < detection->group->count; i++) {
        int32_t maker = detection->maker[i];

        if (maker != UNKNOWN && detection->proofs[i].read == 1 &&
            memcmp(detection->proofs[i].nonce, detection->proofs[maker].nonce,
                   NONCE_BYTES) == 0)
            detection->lead[i] = maker;
    }
}

static tally_status_t round_run(struct detection *detection)
{
    struct exchange *exchange = detection->exchange;
    struct exchange_group *group = detection->group;
    int32_t maker = detection->maker[group->index];
    struct segment segment = {.memory = NULL};
    struct proof proof;
    tally_status_t status = TALLY_OK;

    memset(&proof, 0, sizeof(proof));
    if (maker == group->index)
        status = nonce_make(&segment, &proof);
    status = agreement_gather(exchange, group, status, segment.name,
                              detection->names, SEGMENT_NAME_BYTES);
    if (status != TALLY_OK)
        goto close_segment;
    if (maker != UNKNOWN && maker != group->index)
        nonce_read(detection->names[maker], &proof);
    status = agreement_gather(exchange, group, TALLY_OK, &proof,
                              detection->proofs, sizeof(proof));
    if (status == TALLY_OK)
        round_judge(detection);
close_segment:
    segment_close(&segment);
    return status;
}

static tally_status_t topology_allocate(int32_t size, int32_t node_count,
                                        int32_t local_size,
                                        struct topology **out)
{
    struct topology *topology = calloc(1, sizeof(*topology));

    if (topology == NULL)
        goto fail;
    topology->size = size;
    topology->node_count = node_count;
    topology->local_size = local_size;
    topology->node_of = calloc((size_t)size, sizeof(int32_t));
    topology->leader_of = calloc((size_t)node_count, sizeof(int32_t));
    topology->local_ranks = calloc((size_t)local_size, sizeof(int32_t));
    topology->local_pids = calloc((size_t)local_size, sizeof(pid_t));
    if (topology->node_of == NULL || topology->leader_of == NULL ||
        topology->local_ranks == NULL || topology->local_pids == NULL)
        goto fail;
    *out = topology;
    return TALLY_OK;
fail:
    topology_free(topology);
    return core_fail(TALLY_ERR_MEMORY, "no memory for the nodes of %d ranks",
                     (int)size);
}

static pid_t pid_seen_by(const struct topology_self *self,
                         const struct topology_self *other)
{
    bool seen =
        self->pid_namespace != 0 && self->pid_namespace == other->pid_namespace;

    return seen ? other->pid : 0;
}

static tally_status_t tables_make(const struct detection *detection,
                                  struct topology **out)
{
    const int32_t *lead = detection->lead;
    int32_t size = detection->group->count;
    int32_t rank = detection->group->index;
    int32_t node_count = 0;
    int32_t local_size = 0;
    struct topology *topology = NULL;

    for (int32_t i = 0; i < size; i++) {
        node_count += lead[i] == i;
        local_size += lead[i] == lead[rank];
    }
    tally_status_t status =
        topology_allocate(size, node_count, local_size, &topology);
    if (status != TALLY_OK)
        return status;
    int32_t nodes = 0;
    int32_t locals = 0;
    for (int32_t i = 0; i < size; i++) {
        if (lead[i] == i)
            topology->leader_of[nodes++] = i;
        // Leaders are the lowest of their nodes, so theirs is numbered by now.
        topology->node_of[i] =
            lead[i] == i ? nodes - 1 : topology->node_of[lead[i]];
        if (lead[i] != lead[rank])
            continue;
        if (i == rank)
            topology->local_index = locals;
        topology->local_ranks[locals] = i;
        topology->local_pids[locals] =
            pid_seen_by(&detection->selves[rank], &detection->selves[i]);
        locals++;
    }
    topology->rank = rank;
    topology->node = topology->node_of[rank];
    *out = topology;
    return TALLY_OK;
}

tally_status_t topology_prove(struct exchange *exchange,
                              struct exchange_group *group,
                              const struct topology_self *self,
                              struct topology **out)
{
    struct detection detection = {.exchange = exchange, .group = group};
    tally_status_t status;

    status = detection_allocate(&detection);
    if (status != TALLY_OK)
        return status;
    status = agreement_gather(exchange, group, TALLY_OK, self, detection.selves,
                              sizeof(*self));
    while (status == TALLY_OK && round_plan(&detection))
        status = round_run(&detection);
    if (status == TALLY_OK)
        status = tables_make(&detection, out);
    detection_free(&detection);
    return status;
}

tally_status_t topology_detect(struct exchange *exchange,
                               struct exchange_group *group,
                               const struct topology_params *params,
                               struct topology **out)
{
    struct topology_self self;

    topology_self_read(params, &self);
    return topology_prove(exchange, group, &self, out);
}

void topology_free(struct topology *topology)
{
    if (topology == NULL)
        return;
    free(topology->local_pids);
    free(topology->local_ranks);
    free(topology->leader_of);
    free(topology->node_of);
    free(topology);
}
