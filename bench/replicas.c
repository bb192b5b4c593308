// SPDX-License-Identifier: BSD-3-Clause
// One rank of a replica group that counts and applies steps without a model,
// and writes down when: bench/replicas.py starts several, kills some, and reads
// what they wrote. Times are CLOCK_MONOTONIC's, so those of one host compare.
//
//     replicas [--plain] STEPS PACE_US
//
// --plain: the same ranks without the replica path. It says "begin" after its
// first step. After STEPS steps, or at SIGTERM, it writes its lines, then
// "end", and closes at SIGTERM. A line:
//
//     count|apply BEGIN_NS END_NS INDEX ATTEMPT MEMBERS STATUS
//     gone NS PEERS
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tally/tally.h>
#include <unistd.h>

#include "perf/samples.h"

#define TOKENS 100
#define NAP_US 2000
#define DECISIONS_MAX 2000000
#define GONE_TEXT " thought gone: "

struct decision {
    const char *kind;
    int64_t begin_ns, end_ns;
    uint64_t index, members;
    uint32_t attempt;
    tally_replica_status_t status;
};

struct bench {
    bool plain;
    int64_t steps;
    useconds_t pace_us;
    tally_t *tally;
    tally_group_t *group;
    tally_step_t *step;
    struct decision *decisions;
    size_t count;
};

static volatile sig_atomic_t over;

static void end(int number)
{
    (void)number;
    over = 1;
}

static void fail(const char *what)
{
    fprintf(stderr, "replicas: %s: %s\n", what, tally_last_error());
    exit(EXIT_FAILURE);
}

// Whom the loop's thread thinks dead.
static void heed_log(void *context, tally_log_level_t level, const char *line)
{
    const char *gone = strstr(line, GONE_TEXT);

    (void)context;
    if (gone != NULL) {
        printf("gone %lld %s\n", (long long)samples_now_ns(),
               gone + strlen(GONE_TEXT));
        fflush(stdout);
    }
    if (level <= TALLY_LOG_WARN)
        fprintf(stderr, "%s\n", line);
}

static struct decision *keep(struct bench *bench, const char *kind)
{
    struct decision *kept = &bench->decisions[bench->count];

    if (bench->count + 1 < DECISIONS_MAX)
        bench->count++;
    *kept = (struct decision){.kind = kind, .begin_ns = samples_now_ns()};
    return kept;
}

// There is no model: whatever it should hold, it holds.
static void restore(struct bench *bench)
{
    tally_replica_state_t state = TALLY_INIT(tally_replica_state_t);

    if (tally_replica_state(bench->step, &state) != TALLY_OK ||
        tally_replica_restored(bench->step, &state) != TALLY_OK)
        fail("restore");
}

// From the count to the scale.
static tally_replica_status_t count(struct bench *bench)
{
    static const int32_t values[TOKENS] = {0};
    tally_labels_t labels = TALLY_INIT(tally_labels_t);
    tally_channel_result_t channel = TALLY_INIT(tally_channel_result_t);
    tally_result_t result = TALLY_INIT(tally_result_t);

    labels.type = TALLY_I32;
    labels.values = values;
    labels.tokens = TOKENS;
    if (tally_step_begin(bench->step, 1, NULL) != TALLY_OK ||
        tally_step_count(bench->step, 0, &labels, NULL) != TALLY_OK)
        fail("count");
    struct decision *kept = keep(bench, "count");
    tally_status_t status = tally_step_reduce(bench->step, NULL);
    if (status == TALLY_OK)
        status = tally_step_wait(bench->step, NULL);
    kept->end_ns = samples_now_ns();
    if (status == TALLY_OK || status == TALLY_ERR_REPLICA)
        status = tally_step_end(bench->step, NULL);
    if (status != TALLY_OK && status != TALLY_ERR_REPLICA)
        fail("step");
    result.channels = &channel;
    result.channel_capacity = 1;
    status = tally_step_result(bench->step, 0, TALLY_RESULT_WAIT, &result);
    if (status != TALLY_OK && status != TALLY_ERR_REPLICA)
        fail("result");
    kept->index = bench->plain ? result.epoch : result.replica_index;
    kept->members = result.replica_members;
    kept->status = result.replica_status;
    return kept->status;
}

// From the gradient to the permission to use it.
static void apply(struct bench *bench)
{
    tally_replica_verdict_t verdict = TALLY_INIT(tally_replica_verdict_t);

    do {
        struct decision *kept = keep(bench, "apply");
        if (tally_replica_ready(bench->step, TALLY_REPLICA_READY) != TALLY_OK)
            fail("ready");
        do {
            if (tally_replica_apply(bench->step, &verdict) != TALLY_OK)
                fail("apply");
        } while (verdict.status == TALLY_REPLICA_IN_DOUBT);
        kept->end_ns = samples_now_ns();
        kept->index = verdict.index;
        kept->attempt = verdict.attempt;
        kept->members = verdict.members;
        kept->status = verdict.status;
    } while (verdict.status == TALLY_REPLICA_RETRY);
}

static void open_all(struct bench *bench)
{
    tally_host_t host = TALLY_INIT(tally_host_t);
    tally_replica_params_t replica = TALLY_INIT(tally_replica_params_t);
    tally_group_params_t group = TALLY_INIT(tally_group_params_t);
    tally_step_params_t step = TALLY_INIT(tally_step_params_t);
    tally_channel_t channel = TALLY_INIT(tally_channel_t);

    host.log = heed_log;
    replica.replica = -1;
    if (!bench->plain)
        group.replica = &replica;
    channel.vocab = 1;
    step.order = TALLY_COUNT_FIRST;
    step.convention = TALLY_GRADIENT_AVERAGE;
    step.channels = &channel;
    step.channel_count = 1;
    if (tally_open(&host, &bench->tally) != TALLY_OK ||
        tally_group_create(bench->tally, &group, &bench->group) != TALLY_OK ||
        tally_step_create(bench->group, &step, &bench->step) != TALLY_OK)
        fail("open");
}

static void say(const char *word)
{
    puts(word);
    fflush(stdout);
}

static void train(struct bench *bench)
{
    bool began = false;

    for (int64_t i = 0; i < bench->steps && !over; i++) {
        tally_replica_status_t status = count(bench);
        if (status == TALLY_REPLICA_COUNTED)
            apply(bench);
        else if (status == TALLY_REPLICA_LAGGING)
            restore(bench);
        else if (status == TALLY_REPLICA_FENCED)
            fail("fenced");
        if (!began && (bench->plain || status == TALLY_REPLICA_COUNTED)) {
            say("begin");
            began = true;
        }
        if (bench->pace_us > 0)
            usleep(bench->pace_us);
    }
}

static void write_all(const struct bench *bench)
{
    for (size_t i = 0; i < bench->count; i++) {
        const struct decision *kept = &bench->decisions[i];
        printf("%s %lld %lld %llu %u %llx %s\n", kept->kind,
               (long long)kept->begin_ns, (long long)kept->end_ns,
               (unsigned long long)kept->index, (unsigned)kept->attempt,
               (unsigned long long)kept->members,
               tally_replica_status_string(kept->status));
    }
    say("end");
}

int main(int argc, char **argv)
{
    struct bench bench = {0};
    int at = 1;

    if (at < argc && strcmp(argv[at], "--plain") == 0) {
        bench.plain = true;
        at++;
    }
    if (argc - at != 2) {
        fprintf(stderr, "usage: replicas [--plain] STEPS PACE_US\n");
        return 2;
    }
    bench.steps = strtoll(argv[at], NULL, 10);
    bench.pace_us = (useconds_t)strtoul(argv[at + 1], NULL, 10);
    bench.decisions = calloc(DECISIONS_MAX, sizeof(*bench.decisions));
    if (bench.decisions == NULL)
        return EXIT_FAILURE;
    signal(SIGTERM, end);
    open_all(&bench);
    train(&bench);
    write_all(&bench);
    while (!over)
        usleep(NAP_US);
    if (tally_step_free(bench.step) != TALLY_OK ||
        tally_group_free(bench.group) != TALLY_OK ||
        tally_close(bench.tally) != TALLY_OK)
        fail("close");
    free(bench.decisions);
    return EXIT_SUCCESS;
}
