// SPDX-License-Identifier: BSD-3-Clause
// A rank of a replica group, for tests that kill it: counts random tokens, sums
// a toy gradient with the ranks of the replicas that are counted, steps a toy
// optimizer, restores from others, and logs all that replicas.py needs to
// check it. Files of FOLDER stand for the network between trainers.
//
//     replica_rank FOLDER REPLICA INDEX
//
// Goes on until INDEX is applied, or to what the file FOLDER/stop says.
// Publishes each 16th state as a checkpoint, or each PUBLISH_EVERY-th.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tally/tally.h>
#include <time.h>
#include <unistd.h>

#include "fault/store.h"

#define TOKENS_MAX 4000
#define RANKS_MAX 64
#define REPLICAS_MAX 8
#define KEPT 16 // snapshots
#define GRADIENT_WAIT_MS 400
#define RESTORE_WAIT_MS 400
#define LINGER_MS 60000

struct job {
    const char *folder;
    int replica;
    uint64_t last; // index to apply
    FILE *log;
    tally_t *tally;
    tally_group_t *group;
    tally_step_t *step;
    int32_t rank, ranks;
    uint64_t parameters;
    tally_replica_state_t state;
    int64_t own; // tokens of this step
    struct store store;
    tally_membership_t membership; // with TALLY_QUORUM=callback
};

// What trainers tell each other.
struct note {
    uint64_t key;   // digest of the decision, or of the state
    uint64_t index; // of the state
    uint64_t value; // gradient, or parameters
};

static void nap_ms(long ms)
{
    const struct timespec time = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&time, NULL);
}

static void fail(const struct job *job, const char *what)
{
    fprintf(stderr, "replica %d rank %d: %s: %s\n", job->replica,
            (int)job->rank, what, tally_last_error());
    exit(3);
}

static void name_note(const struct job *job, const char *kind, int replica,
                      int rank, uint64_t number, char path[512])
{
    snprintf(path, 512, "%s/%s.%d.%d.%llu", job->folder, kind, replica, rank,
             (unsigned long long)number);
}

static void write_note(const struct job *job, const char *kind, uint64_t number,
                       const struct note *note)
{
    char path[512], unfinished[520];

    name_note(job, kind, job->replica, job->rank, number, path);
    snprintf(unfinished, sizeof(unfinished), "%s.new", path);
    FILE *file = fopen(unfinished, "we");
    if (file == NULL || fwrite(note, sizeof(*note), 1, file) != 1 ||
        fclose(file) != 0 || rename(unfinished, path) != 0) {
        perror(path);
        exit(4);
    }
}

static bool read_note(const struct job *job, const char *kind, int replica,
                      int rank, uint64_t number, struct note *note)
{
    char path[512];

    name_note(job, kind, replica, rank, number, path);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    bool whole = fread(note, sizeof(*note), 1, file) == 1;
    fclose(file);
    return whole;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    a = (a ^ b) * 0x9e3779b97f4a7c15u;
    return a ^ a >> 29;
}

// --------------------------------------------------------------- the gradient

// The sum over all ranks of the members; false: some did not come.
static bool sum_gradient(const struct job *job, uint64_t members,
                         uint64_t decision, uint64_t *sum)
{
    struct note note = {.key = decision};
    int waited_ms = 0;

    note.value = mix(job->parameters, (uint64_t)job->own);
    write_note(job, "gradient", 0, &note);
    *sum = 0;
    for (int replica = 0; replica < 64; replica++) {
        if ((members >> replica & 1) == 0)
            continue;
        for (int rank = 0; rank < job->ranks; rank++) {
            while (!read_note(job, "gradient", replica, rank, 0, &note) ||
                   note.key != decision) {
                if (waited_ms++ >= GRADIENT_WAIT_MS)
                    return false;
                nap_ms(1);
            }
            *sum += note.value;
        }
    }
    return true;
}

// ----------------------------------------------------------------- the states

static void publish(const struct job *job)
{
    const struct note note = {job->state.digest, job->state.index,
                              job->parameters};

    write_note(job, "snapshot", job->state.index % KEPT, &note);
}

// Of another replica, or what was stored before all were started again.
static bool find_parameters(const struct job *job,
                            const tally_replica_state_t *state,
                            struct note *note)
{
    for (int replica = 0; replica < REPLICAS_MAX; replica++)
        if ((replica != job->replica &&
             read_note(job, "snapshot", replica, job->rank, state->index % KEPT,
                       note) &&
             note->key == state->digest && note->index == state->index) ||
            (read_note(job, "checkpoint", replica, 0, state->index, note) &&
             note->key == state->digest))
            return true;
    return false;
}

static bool restore(struct job *job)
{
    tally_replica_state_t state = TALLY_INIT(tally_replica_state_t);
    struct note note;

    if (tally_replica_state(job->step, &state) != TALLY_OK)
        fail(job, "state");
    for (int waited_ms = 0; !find_parameters(job, &state, &note); waited_ms++) {
        if (waited_ms == RESTORE_WAIT_MS)
            return false;
        nap_ms(1);
    }
    job->parameters = note.value;
    job->state = state;
    fprintf(job->log, "restored %llu %016llx %016llx\n",
            (unsigned long long)state.index, (unsigned long long)state.digest,
            (unsigned long long)job->parameters);
    if (tally_replica_restored(job->step, &state) != TALLY_OK)
        fail(job, "restored");
    return true;
}

// ------------------------------------------------------------------- the step

static void log_decision(const struct job *job, const char *word,
                         uint32_t lineage, uint64_t index, uint32_t attempt,
                         uint64_t members, uint64_t digest, int64_t total)
{
    fprintf(job->log, "%s %u %llu %u %llx %016llx %lld %lld\n", word,
            (unsigned)lineage, (unsigned long long)index, (unsigned)attempt,
            (unsigned long long)members, (unsigned long long)digest,
            (long long)total, (long long)job->own);
}

static int64_t read_result(const struct job *job, tally_result_t *result)
{
    tally_channel_result_t channel = TALLY_INIT(tally_channel_result_t);

    *result = (tally_result_t)TALLY_INIT(tally_result_t);
    result->channels = &channel;
    result->channel_capacity = 1;
    tally_status_t status =
        tally_step_result(job->step, 0, TALLY_RESULT_WAIT, result);
    if (status != TALLY_OK && status != TALLY_ERR_REPLICA)
        fail(job, "result");
    return channel.count;
}

// One epoch; returns what became of the count.
static tally_replica_status_t count(struct job *job, tally_result_t *result)
{
    static const int32_t values[TOKENS_MAX] = {0};
    tally_labels_t labels = TALLY_INIT(tally_labels_t);

    job->own = 1 + random() % (TOKENS_MAX - 1);
    fprintf(job->log, "offer %lld\n", (long long)job->own);
    fflush(job->log);
    labels.type = TALLY_I32;
    labels.values = values;
    labels.tokens = job->own;
    if (tally_step_begin(job->step, 1, NULL) != TALLY_OK ||
        tally_step_count(job->step, 0, &labels, NULL) != TALLY_OK ||
        tally_step_reduce(job->step, NULL) != TALLY_OK)
        fail(job, "step");
    tally_status_t status = tally_step_end(job->step, NULL);
    if (status != TALLY_OK && status != TALLY_ERR_REPLICA)
        fail(job, "end");
    int64_t total = read_result(job, result);
    if (result->replica_status == TALLY_REPLICA_COUNTED)
        log_decision(job, "counted", result->replica_lineage,
                     result->replica_index, 0, result->replica_members,
                     result->replica_digest, total);
    else
        fprintf(job->log, "not %s %llu\n",
                tally_replica_status_string(result->replica_status),
                (unsigned long long)result->replica_index);
    fflush(job->log);
    return result->replica_status;
}

// Now and then. All ranks have the same parameters: one note is a checkpoint.
static void publish_in_register(const struct job *job)
{
    const struct note note = {job->state.digest, job->state.index,
                              job->parameters};

    const char *every = getenv("PUBLISH_EVERY");
    uint64_t steps = every == NULL ? KEPT : strtoull(every, NULL, 10);

    if (job->rank != 0 || job->state.index % steps != 0)
        return;
    write_note(job, "checkpoint", job->state.index, &note);
    tally_status_t status = tally_replica_publish(job->step, &job->state);
    fprintf(job->log, "published %llu %s\n",
            (unsigned long long)job->state.index, tally_status_string(status));
    fflush(job->log);
}

static void apply(struct job *job, const tally_replica_verdict_t *verdict,
                  uint64_t sum)
{
    tally_result_t result;
    int64_t total = read_result(job, &result);

    job->parameters = mix(mix(job->parameters, sum), (uint64_t)total);
    job->state = verdict->state;
    log_decision(job, "applied", verdict->lineage, verdict->index,
                 verdict->attempt, verdict->members, verdict->digest, total);
    fprintf(job->log, "parameters %llu %016llx %016llx\n",
            (unsigned long long)job->state.index,
            (unsigned long long)job->state.digest,
            (unsigned long long)job->parameters);
    fflush(job->log);
    publish(job);
    publish_in_register(job);
}

// For kills between a count and its gradients: who finds the file dies.
static void die_if_told(const struct job *job)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/die.%d.%d", job->folder, job->replica,
             (int)job->rank);
    if (unlink(path) == 0)
        raise(SIGKILL);
}

// From a count to its end.
static tally_replica_status_t finish(struct job *job, uint64_t members,
                                     uint64_t decision)
{
    tally_replica_verdict_t verdict = TALLY_INIT(tally_replica_verdict_t);
    uint64_t sum;

    die_if_told(job);
    do {
        bool whole = sum_gradient(job, members, decision, &sum);
        if (tally_replica_ready(job->step, whole ? TALLY_REPLICA_READY
                                                 : TALLY_REPLICA_UNREADY) !=
            TALLY_OK)
            fail(job, "ready");
        do {
            if (tally_replica_apply(job->step, &verdict) != TALLY_OK)
                fail(job, "apply");
        } while (verdict.status == TALLY_REPLICA_IN_DOUBT);
        members = verdict.members;
        decision = verdict.digest;
    } while (verdict.status == TALLY_REPLICA_RETRY);
    if (verdict.status == TALLY_REPLICA_APPLY)
        apply(job, &verdict, sum);
    else
        fprintf(job->log, "verdict %s\n",
                tally_replica_status_string(verdict.status));
    return verdict.status;
}

static bool is_over(const struct job *job)
{
    char path[512];
    unsigned long long last = job->last;

    snprintf(path, sizeof(path), "%s/stop", job->folder);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        if (fscanf(file, "%llu", &last) != 1)
            last = job->last;
        fclose(file);
    }
    return job->state.index >= last;
}

static void train(struct job *job)
{
    while (!is_over(job)) {
        tally_result_t result;
        tally_replica_status_t status = count(job, &result);

        if (status == TALLY_REPLICA_COUNTED)
            status = finish(job, result.replica_members, result.replica_digest);
        if (status == TALLY_REPLICA_LAGGING)
            restore(job);
        if (status == TALLY_REPLICA_FENCED)
            fail(job, "fenced");
    }
}

// Whether this rank tells Tally who is there.
static bool has_store(struct job *job)
{
    const char *quorum = getenv("TALLY_QUORUM");

    if (quorum == NULL || strcmp(quorum, "callback") != 0 || job->rank != 0)
        return false;
    job->store = (struct store){.folder = job->folder, .peer = job->replica};
    if (!store_join(&job->store, &job->membership)) {
        perror(job->folder);
        exit(4);
    }
    return true;
}

static void open_job(struct job *job)
{
    tally_replica_params_t replica = TALLY_INIT(tally_replica_params_t);
    tally_group_params_t group = TALLY_INIT(tally_group_params_t);
    tally_step_params_t step = TALLY_INIT(tally_step_params_t);
    tally_channel_t channel = TALLY_INIT(tally_channel_t);

    replica.replica = job->replica;
    group.replica = &replica;
    channel.vocab = 1;
    step.channels = &channel;
    step.channel_count = 1;
    if (tally_open(NULL, &job->tally) != TALLY_OK ||
        tally_rank(job->tally, &job->rank, &job->ranks) != TALLY_OK)
        fail(job, "open");
    if (has_store(job))
        replica.membership = &job->membership;
    if (tally_group_create(job->tally, &group, &job->group) != TALLY_OK ||
        tally_step_create(job->group, &step, &job->step) != TALLY_OK)
        fail(job, "open");
}

// They may have to ask for the last decision.
static void await_the_others(const struct job *job)
{
    const char *count = getenv("TALLY_REPLICAS");
    int ranks = count == NULL ? 0 : atoi(count) * job->ranks;
    struct note note = {0};

    write_note(job, "ended", 0, &note);
    for (int i = 0, waited_ms = 0; i < ranks && waited_ms < LINGER_MS;) {
        if (read_note(job, "ended", i / job->ranks, i % job->ranks, 0, &note)) {
            i++;
        } else {
            nap_ms(10);
            waited_ms += 10;
        }
    }
}

int main(int argc, char **argv)
{
    struct job job = {0};
    char path[512];

    if (argc != 4)
        return 2;
    job.folder = argv[1];
    job.replica = atoi(argv[2]);
    job.last = strtoull(argv[3], NULL, 10);
    srandom((unsigned)getpid() ^ (unsigned)time(NULL) << 8);
    open_job(&job);
    snprintf(path, sizeof(path), "%s/log.%d.%d.%d", job.folder, job.replica,
             (int)job.rank, (int)getpid());
    job.log = fopen(path, "we");
    if (job.log == NULL)
        return 4;
    train(&job);
    fprintf(job.log, "end %llu %016llx\n", (unsigned long long)job.state.index,
            (unsigned long long)job.parameters);
    fclose(job.log);
    await_the_others(&job);
    if (tally_step_free(job.step) != TALLY_OK ||
        tally_group_free(job.group) != TALLY_OK ||
        tally_close(job.tally) != TALLY_OK)
        return 5;
    return 0;
}
