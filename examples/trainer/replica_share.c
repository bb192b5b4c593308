// SPDX-License-Identifier: BSD-3-Clause
// See replica_share.h. A slot has one writer and a key: 0 while it is written,
// so who has read it and finds the same key has read all of it.
#include "replica_share.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "fail.h"

#define KEPT 4 // models of a replica

struct gradient_slot {
    _Atomic uint64_t key; // digest of the decision
    double values[MODEL_PARAMETERS];
};

struct model_slot {
    _Atomic uint64_t key; // digest of the state
    uint64_t index;
    int64_t steps;
    struct model parameters;
    float moments[2][MODEL_PARAMETERS];
};

struct replica_share {
    struct replica_share_params params;
    size_t bytes;
    struct gradient_slot *gradients; // [replicas][ranks]
    struct model_slot *models;       // [replicas][KEPT]
    uint64_t published;
};

static void nap(void)
{
    const struct timespec time = {.tv_nsec = 200000};

    nanosleep(&time, NULL);
}

static int64_t milliseconds_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool replica_share_open(const struct replica_share_params *params,
                        struct replica_share **out)
{
    size_t gradients = (size_t)params->replicas * (size_t)params->ranks *
                       sizeof(struct gradient_slot);
    size_t models = (size_t)params->replicas * KEPT * sizeof(struct model_slot);
    char path[256];

    if (params->name == NULL)
        return trainer_fail("replica groups need --shared NAME: a name for the "
                            "shared memory of all of them");
    snprintf(path, sizeof(path), "/%s", params->name);
    int file = shm_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0)
        return trainer_fail("cannot open shared memory %s: %s", path,
                            strerror(errno));
    void *memory = MAP_FAILED;
    if (ftruncate(file, (off_t)(gradients + models)) == 0)
        memory = mmap(NULL, gradients + models, PROT_READ | PROT_WRITE,
                      MAP_SHARED, file, 0);
    close(file);
    if (memory == MAP_FAILED)
        return trainer_fail("cannot map %s: %s", path, strerror(errno));
    struct replica_share *share = calloc(1, sizeof(*share));
    if (share == NULL) {
        munmap(memory, gradients + models);
        return trainer_fail("no memory for the share of replica groups");
    }
    share->params = *params;
    share->bytes = gradients + models;
    share->gradients = memory;
    share->models = (struct model_slot *)((char *)memory + gradients);
    *out = share;
    return true;
}

void replica_share_close(struct replica_share *share)
{
    if (share == NULL)
        return;
    munmap(share->gradients, share->bytes);
    free(share);
}

static struct gradient_slot *gradient_of(struct replica_share *share,
                                         int32_t replica, int32_t rank)
{
    return &share->gradients[replica * share->params.ranks + rank];
}

void replica_share_offer(struct replica_share *share, uint64_t decision,
                         const double gradient[MODEL_PARAMETERS])
{
    struct gradient_slot *slot =
        gradient_of(share, share->params.replica, share->params.rank);

    atomic_store(&slot->key, 0);
    memcpy(slot->values, gradient, sizeof(slot->values));
    atomic_store(&slot->key, decision);
}

static bool is_offered(struct replica_share *share, uint64_t decision,
                       uint64_t members)
{
    for (int32_t replica = 0; replica < share->params.replicas; replica++)
        for (int32_t rank = 0; rank < share->params.ranks; rank++)
            if ((members >> replica & 1) != 0 &&
                atomic_load(&gradient_of(share, replica, rank)->key) !=
                    decision)
                return false;
    return true;
}

bool replica_share_sum(struct replica_share *share, uint64_t decision,
                       uint64_t members, int patience_ms,
                       double gradient[MODEL_PARAMETERS])
{
    int64_t deadline = milliseconds_now() + patience_ms;

    while (!is_offered(share, decision, members)) {
        if (milliseconds_now() >= deadline)
            return false;
        nap();
    }
    memset(gradient, 0, MODEL_PARAMETERS * sizeof(*gradient));
    for (int32_t replica = 0; replica < share->params.replicas; replica++)
        for (int32_t rank = 0; rank < share->params.ranks; rank++) {
            const double *values = gradient_of(share, replica, rank)->values;
            if ((members >> replica & 1) == 0)
                continue;
            for (size_t i = 0; i < MODEL_PARAMETERS; i++)
                gradient[i] += values[i];
        }
    return is_offered(share, decision, members);
}

void replica_share_publish(struct replica_share *share,
                           const tally_replica_state_t *state,
                           const struct model *parameters,
                           const struct optimizer *optimizer)
{
    struct model_slot *slot =
        &share->models[(size_t)share->params.replica * KEPT +
                       share->published++ % KEPT];

    atomic_store(&slot->key, 0);
    slot->index = state->index;
    slot->steps = optimizer->steps;
    slot->parameters = *parameters;
    for (int i = 0; i < 2; i++)
        if (optimizer->moments[i] != NULL)
            memcpy(slot->moments[i], optimizer->moments[i],
                   sizeof(slot->moments[i]));
    atomic_store(&slot->key, state->digest);
}

// Whether all of the copy was made of that state.
static bool copy(struct model_slot *slot, const tally_replica_state_t *state,
                 struct model *parameters, struct optimizer *optimizer)
{
    if (atomic_load(&slot->key) != state->digest || slot->index != state->index)
        return false;
    *parameters = slot->parameters;
    optimizer->steps = (long)slot->steps;
    for (int i = 0; i < 2; i++)
        if (optimizer->moments[i] != NULL)
            memcpy(optimizer->moments[i], slot->moments[i],
                   sizeof(slot->moments[i]));
    return atomic_load(&slot->key) == state->digest;
}

bool replica_share_restore(struct replica_share *share,
                           const tally_replica_state_t *state, int patience_ms,
                           struct model *parameters,
                           struct optimizer *optimizer)
{
    int64_t deadline = milliseconds_now() + patience_ms;
    int32_t count = share->params.replicas * KEPT;

    do {
        for (int32_t i = 0; i < count; i++)
            if (copy(&share->models[i], state, parameters, optimizer))
                return true;
        nap();
    } while (milliseconds_now() < deadline);
    return false;
}
