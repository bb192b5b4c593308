// SPDX-License-Identifier: BSD-3-Clause
// See scene.h.
#include "harness/scene.h"

#include <check.h>
#include <stdlib.h>
#include <unistd.h>

static void run_rank(struct ranks_member *member)
{
    const struct scene *scene = member->argument;
    struct rendezvous rendezvous;

    rendezvous_prepare(&rendezvous, member->rank,
                       scene->size > 0 ? scene->size : member->size,
                       scene->port);
    if (scene->change != NULL)
        scene->change(&rendezvous, member->rank);
    rendezvous_open(&rendezvous);
    if (scene->sentence != NULL) {
        ck_assert_str_eq(rendezvous.sentence, scene->sentence);
        ck_assert_int_eq(rendezvous.status, scene->status);
    } else {
        ck_assert_str_eq(rendezvous.sentence, "");
    }
    if (rendezvous.exchange != NULL && scene->body != NULL)
        scene->body(&rendezvous, member);
    rendezvous_close(&rendezvous);
}

void scene_run(int32_t size, struct scene scene)
{
    int fd;

    scene.port = rendezvous_port(&fd);
    ranks_run(size, run_rank, &scene);
    close(fd);
}

void scene_gather_over_all(struct rendezvous *rendezvous,
                           struct ranks_member *member)
{
    int32_t *ranks = calloc((size_t)member->size, sizeof(*ranks));
    struct exchange_group group = {ranks, member->size, member->rank, "all", 0};

    for (int32_t i = 0; i < member->size; i++)
        ranks[i] = i;
    for (int32_t i = 0; i < 5; i++)
        ck_assert_int_eq(rendezvous_gather(rendezvous, &group, i), TALLY_OK);
    ck_assert_uint_eq(group.sequence, 5);
    ranks_barrier(member); // or a part may leave while others read
    free(ranks);
}
