// SPDX-License-Identifier: BSD-3-Clause
// Steps of replica groups through the public functions: replicas are threads of
// one rank each, over the real transport on the loopback. What happens to
// processes that are killed is tests/fault's.
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/job.h"
#include "harness/ranks.h"

#define VOCAB 7
#define REPLICAS 3

static const int64_t some_labels[] = {1, 2, 3, 4, 5, 6, 0, 1};

// What all replicas of a test share.
struct scene {
    char folder[64];
    bool vetoes;       // replica 1 does not let a step be applied
    int32_t misfit;    // it has one channel more; -1: none
    const char *tight; // TALLY_REPLICA_DEADLINE
};

// Workers are opened and closed in turn: opened by several threads at once, UCX
// broke down now and then. Replicas are processes elsewhere.
static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;

struct replica {
    const struct scene *scene;
    tally_t *tally;
    tally_group_t *group;
    tally_step_t *step;
};

static const char *setting(void *context, const char *name)
{
    const struct replica *replica = context;

    if (strcmp(name, "TALLY_REPLICA_FOLDER") == 0)
        return replica->scene->folder;
    if (strcmp(name, "TALLY_REPLICA_DEADLINE") == 0)
        return replica->scene->tight;
    if (strcmp(name, "TALLY_PLUGIN_PATH") == 0)
        return BUILD_FOLDER "/.libs";
    if (strcmp(name, "TALLY_LOG") == 0)
        return getenv(name);
    if (strcmp(name, "TALLY_UCX_TLS") == 0)
        return "tcp,self";
    if (strcmp(name, "TALLY_OFI_PROVIDER") == 0)
        return "tcp;ofi_rxm";
    return NULL;
}

static int refuse(void *context, uint64_t index, int ready)
{
    (void)context;
    (void)index;
    (void)ready;
    return 0;
}

static void scene_begin(struct scene *scene)
{
    *scene = (struct scene){.misfit = -1, .tight = "20"};
    strcpy(scene->folder, "/tmp/tally-replicas.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(scene->folder));
}

static void scene_end(const struct scene *scene)
{
    char command[128];

    snprintf(command, sizeof(command), "rm -rf %s", scene->folder);
    ck_assert_int_eq(system(command), 0);
}

static tally_status_t create(struct replica *replica, int32_t number,
                             int32_t replicas)
{
    tally_host_t host = TALLY_INIT(tally_host_t);
    tally_replica_params_t params = TALLY_INIT(tally_replica_params_t);
    tally_group_params_t group = TALLY_INIT(tally_group_params_t);
    tally_step_params_t step = TALLY_INIT(tally_step_params_t);
    tally_channel_t channels[2] = {TALLY_INIT(tally_channel_t),
                                   TALLY_INIT(tally_channel_t)};

    host.get_env = setting;
    host.context = replica;
    params.replica = number;
    params.replicas = replicas;
    if (replica->scene->vetoes && number == 1)
        params.commit = refuse;
    group.replica = &params;
    channels[0].vocab = channels[1].vocab = VOCAB;
    step.convention = TALLY_GRADIENT_AVERAGE;
    step.channels = channels;
    step.channel_count = replica->scene->misfit == number ? 2 : 1;
    ck_assert_int_eq(tally_open(&host, &replica->tally), TALLY_OK);
    ck_assert_int_eq(
        tally_group_create(replica->tally, &group, &replica->group), TALLY_OK);
    pthread_mutex_lock(&open_lock);
    tally_status_t status =
        tally_step_create(replica->group, &step, &replica->step);
    pthread_mutex_unlock(&open_lock);
    return status;
}

static void replica_open_step(struct ranks_member *member,
                              struct replica *replica)
{
    replica->scene = member->argument;
    ck_assert_int_eq(create(replica, member->rank, member->size), TALLY_OK);
}

// The last decision may have to be asked for: nobody leaves before all have it.
static void replica_close(struct ranks_member *member, struct replica *replica)
{
    ranks_barrier(member);
    pthread_mutex_lock(&open_lock);
    ck_assert_int_eq(tally_step_free(replica->step), TALLY_OK);
    pthread_mutex_unlock(&open_lock);
    ck_assert_int_eq(tally_group_free(replica->group), TALLY_OK);
    ck_assert_int_eq(tally_close(replica->tally), TALLY_OK);
}

// One epoch with so many tokens; the status of its end.
static tally_status_t epoch(struct replica *replica, int64_t tokens,
                            uint32_t channels)
{
    tally_labels_t labels = job_labels(some_labels, tokens);

    ck_assert_int_eq(tally_step_begin(replica->step, 1, NULL), TALLY_OK);
    for (uint32_t k = 0; k < channels; k++)
        ck_assert_int_eq(tally_step_count(replica->step, k, &labels, NULL),
                         TALLY_OK);
    ck_assert_int_eq(tally_step_reduce(replica->step, NULL), TALLY_OK);
    return tally_step_end(replica->step, NULL);
}

static int64_t read_result(struct replica *replica, tally_result_t *result)
{
    tally_channel_result_t channel = TALLY_INIT(tally_channel_result_t);

    *result = (tally_result_t)TALLY_INIT(tally_result_t);
    result->channels = &channel;
    result->channel_capacity = 1;
    tally_status_t status =
        tally_step_result(replica->step, 0, TALLY_RESULT_WAIT, result);
    ck_assert(status == TALLY_OK || status == TALLY_ERR_REPLICA);
    return channel.count;
}

// Until it is counted: at the beginning a replica may be late.
static int64_t count(struct replica *replica, int64_t tokens,
                     tally_result_t *result)
{
    while (epoch(replica, tokens, 1) == TALLY_ERR_REPLICA) {
        read_result(replica, result);
        ck_assert_int_eq(result->replica_status, TALLY_REPLICA_WAITING);
    }
    return read_result(replica, result);
}

static void three_steps(struct ranks_member *member)
{
    struct replica replica;
    const float *scale;

    replica_open_step(member, &replica);
    ck_assert_int_eq(tally_step_scale(replica.step, &scale), TALLY_OK);
    for (uint64_t index = 1; index <= 3; index++) {
        tally_replica_verdict_t verdict = TALLY_INIT(tally_replica_verdict_t);
        tally_replica_state_t state = TALLY_INIT(tally_replica_state_t);
        tally_result_t result;

        ck_assert_int_eq(count(&replica, member->rank + 1, &result), 6);
        ck_assert_uint_eq(result.replica_index, index);
        ck_assert_uint_eq(result.replica_members, 7);
        ck_assert_int_eq(result.replica_status, TALLY_REPLICA_COUNTED);
        ck_assert_int_eq(result.members, 3);
        // Averaged over three ranks.
        ck_assert_float_eq(*scale, 3.0f / 6.0f);
        ck_assert_int_eq(tally_replica_ready(replica.step, TALLY_REPLICA_READY),
                         TALLY_OK);
        ck_assert_int_eq(tally_replica_apply(replica.step, &verdict), TALLY_OK);
        ck_assert_int_eq(verdict.status, TALLY_REPLICA_APPLY);
        ck_assert_uint_eq(verdict.members, 7);
        ck_assert_uint_eq(verdict.state.index, index);
        ck_assert_int_eq(tally_replica_state(replica.step, &state), TALLY_OK);
        ck_assert_uint_eq(state.digest, verdict.state.digest);
    }
    replica_close(member, &replica);
}

START_TEST(replicas_count_together_and_apply_together)
{
    struct scene scene;

    scene_begin(&scene);
    ranks_run(REPLICAS, three_steps, &scene);
    scene_end(&scene);
}
END_TEST

static void a_step_that_is_vetoed(struct ranks_member *member)
{
    tally_replica_verdict_t verdict = TALLY_INIT(tally_replica_verdict_t);
    tally_result_t result;
    struct replica replica;

    replica_open_step(member, &replica);
    count(&replica, 2, &result);
    ck_assert_int_eq(tally_replica_ready(replica.step, TALLY_REPLICA_READY),
                     TALLY_OK);
    ck_assert_int_eq(tally_replica_apply(replica.step, &verdict), TALLY_OK);
    ck_assert_int_eq(verdict.status, TALLY_REPLICA_DISCARDED);
    ck_assert_uint_eq(verdict.state.index, 0);
    replica_close(member, &replica);
}

START_TEST(a_commit_vote_of_the_trainer_discards_the_step_everywhere)
{
    struct scene scene;

    scene_begin(&scene);
    scene.vetoes = true;
    ranks_run(REPLICAS, a_step_that_is_vetoed, &scene);
    scene_end(&scene);
}
END_TEST

// Replica 2 has no gradient over all three, and none at all.
static void a_step_without_one(struct ranks_member *member)
{
    tally_replica_verdict_t verdict = TALLY_INIT(tally_replica_verdict_t);
    tally_result_t result;
    struct replica replica;
    const float *scale;

    replica_open_step(member, &replica);
    ck_assert_int_eq(tally_step_scale(replica.step, &scale), TALLY_OK);
    ck_assert_int_eq(count(&replica, member->rank + 1, &result), 6);
    ck_assert_int_eq(
        tally_replica_ready(replica.step, member->rank == 2
                                              ? TALLY_REPLICA_OUT
                                              : TALLY_REPLICA_UNREADY),
        TALLY_OK);
    ck_assert_int_eq(tally_replica_apply(replica.step, &verdict), TALLY_OK);
    if (member->rank == 2) {
        ck_assert_int_eq(verdict.status, TALLY_REPLICA_EXCLUDED);
    } else {
        ck_assert_int_eq(verdict.status, TALLY_REPLICA_RETRY);
        ck_assert_uint_eq(verdict.members, 3);
        // Two ranks, three tokens.
        ck_assert_float_eq(*scale, 2.0f / 3.0f);
        ck_assert_int_eq(tally_replica_ready(replica.step, TALLY_REPLICA_READY),
                         TALLY_OK);
        ck_assert_int_eq(tally_replica_apply(replica.step, &verdict), TALLY_OK);
        ck_assert_int_eq(verdict.status, TALLY_REPLICA_APPLY);
        ck_assert_int_eq(read_result(&replica, &result), 3);
        ck_assert_uint_eq(result.replica_members, 3);
        ck_assert_uint_eq(result.replica_attempt, 2);
    }
    replica_close(member, &replica);
}

START_TEST(a_gradient_over_fewer_has_the_scale_of_fewer)
{
    struct scene scene;

    scene_begin(&scene);
    ranks_run(REPLICAS, a_step_without_one, &scene);
    scene_end(&scene);
}
END_TEST

// Two of three fit, and wait for the third for ever.
static void one_that_does_not_fit(struct ranks_member *member)
{
    const struct scene *scene = member->argument;
    bool misfit = scene->misfit == member->rank;
    tally_result_t result;
    struct replica replica;
    const float *scale;

    replica_open_step(member, &replica);
    ck_assert_int_eq(tally_step_scale(replica.step, &scale), TALLY_OK);
    ck_assert_int_eq(epoch(&replica, 2, misfit ? 2 : 1), TALLY_ERR_REPLICA);
    ck_assert(isnan(*scale));
    read_result(&replica, &result);
    ck_assert_int_eq(result.status, TALLY_ERR_REPLICA);
    ck_assert_int_eq(result.replica_status, TALLY_REPLICA_WAITING);
    ck_assert_int_eq(tally_replica_ready(replica.step, TALLY_REPLICA_READY),
                     TALLY_ERR_ORDER);
    replica_close(member, &replica);
}

START_TEST(a_replica_with_other_channels_is_not_talked_to)
{
    struct scene scene;

    scene_begin(&scene);
    scene.misfit = 2;
    scene.tight = "2";
    ranks_run(REPLICAS, one_that_does_not_fit, &scene);
    scene_end(&scene);
}
END_TEST

// What became of a step that is ready everywhere.
static tally_replica_status_t apply(struct replica *replica,
                                    tally_replica_verdict_t *verdict)
{
    *verdict = (tally_replica_verdict_t)TALLY_INIT(tally_replica_verdict_t);
    do {
        ck_assert_int_eq(
            tally_replica_ready(replica->step, TALLY_REPLICA_READY), TALLY_OK);
        do
            ck_assert_int_eq(tally_replica_apply(replica->step, verdict),
                             TALLY_OK);
        while (verdict->status == TALLY_REPLICA_IN_DOUBT);
    } while (verdict->status == TALLY_REPLICA_RETRY);
    return verdict->status;
}

// Steps until a later epoch has applied one with all replicas; false: fenced.
static bool steps_on(struct replica *replica)
{
    for (;;) {
        tally_replica_verdict_t verdict;
        tally_replica_state_t state = TALLY_INIT(tally_replica_state_t);
        tally_result_t result;

        epoch(replica, 1, 1);
        read_result(replica, &result);
        tally_replica_status_t status = result.replica_status;
        if (status == TALLY_REPLICA_COUNTED)
            status = apply(replica, &verdict);
        if (status == TALLY_REPLICA_FENCED)
            return false;
        if (status == TALLY_REPLICA_APPLY && verdict.epoch > 1 &&
            verdict.members == 7)
            return true;
        if (status != TALLY_REPLICA_LAGGING)
            continue;
        // There is no model to restore.
        ck_assert_int_eq(tally_replica_state(replica->step, &state), TALLY_OK);
        ck_assert_int_eq(tally_replica_restored(replica->step, &state),
                         TALLY_OK);
    }
}

// Thread 3 is replica 0 started once more, while the first start is at work.
static void two_starts(struct ranks_member *member)
{
    struct ranks_member as = *member;
    tally_replica_verdict_t verdict;
    tally_result_t result;
    struct replica replica;

    as.rank %= REPLICAS;
    as.size = REPLICAS;
    if (member->rank < REPLICAS) {
        replica_open_step(&as, &replica);
        count(&replica, 1, &result);
        ck_assert_int_eq(apply(&replica, &verdict), TALLY_REPLICA_APPLY);
        ranks_barrier(member);
    } else {
        ranks_barrier(member);
        replica_open_step(&as, &replica);
    }
    ck_assert(steps_on(&replica) == (member->rank != 0));
    replica_close(member, &replica);
}

START_TEST(of_two_starts_of_a_replica_the_later_one_stays)
{
    struct scene scene;

    scene_begin(&scene);
    ranks_run(REPLICAS + 1, two_starts, &scene);
    scene_end(&scene);
}
END_TEST

static void calls_out_of_order(struct ranks_member *member)
{
    tally_replica_verdict_t verdict = TALLY_INIT(tally_replica_verdict_t);
    tally_replica_state_t state = TALLY_INIT(tally_replica_state_t);
    tally_step_params_t params = TALLY_INIT(tally_step_params_t);
    tally_channel_t channel = TALLY_INIT(tally_channel_t);
    tally_result_t result;
    struct replica replica;
    tally_step_t *second;

    replica_open_step(member, &replica);
    job_assert_fails(tally_replica_ready(replica.step, TALLY_REPLICA_READY),
                     TALLY_ERR_ORDER,
                     "tally_replica_ready: no ended epoch waits for a vote");
    job_assert_fails(tally_replica_apply(replica.step, &verdict),
                     TALLY_ERR_ORDER,
                     "tally_replica_apply: tally_replica_ready was not called");
    count(&replica, 1, &result);
    job_assert_fails(
        tally_step_begin(replica.step, 1, NULL), TALLY_ERR_ORDER,
        "tally_step_begin: the epoch before waits for tally_replica_ready");
    job_assert_fails(tally_replica_restored(replica.step, &state),
                     TALLY_ERR_ORDER,
                     "tally_replica_restored: the epoch before waits for "
                     "tally_replica_ready");
    job_assert_fails(tally_replica_ready(replica.step, (tally_replica_vote_t)4),
                     TALLY_ERR_INVALID,
                     "tally_replica_ready: there is no vote 4");
    ck_assert_int_eq(tally_replica_ready(replica.step, TALLY_REPLICA_READY),
                     TALLY_OK);
    job_assert_fails(
        tally_step_begin(replica.step, 1, NULL), TALLY_ERR_ORDER,
        "tally_step_begin: the epoch before waits for tally_replica_apply");
    ck_assert_int_eq(tally_replica_apply(replica.step, &verdict), TALLY_OK);
    job_assert_fails(tally_replica_publish(replica.step, &state),
                     TALLY_ERR_INVALID,
                     "tally_replica_publish: a checkpoint of index 0, where 1 "
                     "is the last that was applied");
    ck_assert_int_eq(tally_replica_publish(replica.step, &verdict.state),
                     TALLY_OK);
    channel.vocab = VOCAB;
    params.channels = &channel;
    params.channel_count = 1;
    job_assert_fails(tally_step_create(replica.group, &params, &second),
                     TALLY_ERR_UNSUPPORTED,
                     "tally_step_create: a replica group has one step object");
    replica_close(member, &replica);
}

START_TEST(calls_out_of_order_are_refused)
{
    struct scene scene;

    scene_begin(&scene);
    ranks_run(1, calls_out_of_order, &scene);
    scene_end(&scene);
}
END_TEST

static void close_without_step(struct replica *replica)
{
    ck_assert_int_eq(tally_group_free(replica->group), TALLY_OK);
    ck_assert_int_eq(tally_close(replica->tally), TALLY_OK);
}

START_TEST(settings_that_do_not_fit_are_refused_with_a_sentence)
{
    struct scene scene;
    struct replica replica = {.scene = &scene};

    scene_begin(&scene);
    job_assert_fails(create(&replica, 3, 3), TALLY_ERR_CONFIG,
                     "tally_step_create: there is no replica 3 where "
                     "TALLY_REPLICAS is 3 and TALLY_WITNESSES 0 (at most 64 "
                     "together)");
    close_without_step(&replica);
    scene_end(&scene);
    scene.folder[0] = '\0';
    job_assert_fails(create(&replica, 0, 3), TALLY_ERR_CONFIG,
                     "tally_step_create: TALLY_REPLICA_FOLDER is not set: "
                     "replica groups do not find each other");
    close_without_step(&replica);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("steps of replica groups");
    TCase *tests = tcase_create("steps");

    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, replicas_count_together_and_apply_together);
    tcase_add_test(tests,
                   a_commit_vote_of_the_trainer_discards_the_step_everywhere);
    tcase_add_test(tests, a_gradient_over_fewer_has_the_scale_of_fewer);
    tcase_add_test(tests, a_replica_with_other_channels_is_not_talked_to);
    tcase_add_test(tests, of_two_starts_of_a_replica_the_later_one_stays);
    tcase_add_test(tests, calls_out_of_order_are_refused);
    tcase_add_test(tests, settings_that_do_not_fit_are_refused_with_a_sentence);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
