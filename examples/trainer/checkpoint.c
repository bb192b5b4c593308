// SPDX-License-Identifier: BSD-3-Clause
// See checkpoint.h. The file is of this machine's byte order: a header, then
// the parameters, then the optimizer's two moments.
#include "checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fail.h"

#define MAGIC 0x3174706b6c6c6174u // a version of it

struct header {
    uint64_t magic;
    uint64_t digest; // of the run
    int64_t steps;
    uint64_t lineage; // the state
    uint64_t index;
    uint64_t state_digest;
    uint64_t sum; // of all the rest
    uint64_t reserved;
};
_Static_assert(sizeof(struct header) == 64, "tests skip it to compare models");

// FNV-1a over words.
static uint64_t add_up(uint64_t sum, const void *bytes, size_t size)
{
    const unsigned char *at = bytes;

    for (size_t i = 0; i < size; i += sizeof(uint32_t)) {
        uint32_t word;
        memcpy(&word, at + i, sizeof(word));
        sum = (sum ^ word) * 0x100000001b3u;
    }
    return sum;
}

static uint64_t sum_of(const struct header *header,
                       const struct model *parameters,
                       const struct optimizer *optimizer)
{
    struct header unsummed = *header;
    uint64_t sum;

    unsummed.sum = 0;
    sum = add_up(0xcbf29ce484222325u, &unsummed, sizeof(unsummed));
    sum = add_up(sum, parameters, sizeof(*parameters));
    for (int i = 0; i < 2; i++)
        sum = add_up(sum, optimizer->moments[i],
                     optimizer->count * sizeof(float));
    return sum;
}

// Of each replica its own: two may write, where one takes over from another.
static void unfinished_path(const struct checkpoint_params *params,
                            int32_t replica, char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%s.%d.new", params->path, (int)replica);
}

static bool write_all(FILE *file, const struct header *header,
                      const struct model *parameters,
                      const struct optimizer *optimizer)
{
    size_t count = optimizer->count;

    return fwrite(header, sizeof(*header), 1, file) == 1 &&
           fwrite(parameters, sizeof(*parameters), 1, file) == 1 &&
           fwrite(optimizer->moments[0], sizeof(float), count, file) == count &&
           fwrite(optimizer->moments[1], sizeof(float), count, file) == count &&
           fflush(file) == 0 && fsync(fileno(file)) == 0;
}

bool checkpoint_write(const struct checkpoint_params *params,
                      const tally_replica_state_t *state,
                      const struct model *parameters,
                      const struct optimizer *optimizer)
{
    struct header header = {
        .magic = MAGIC,
        .digest = params->digest,
        .steps = optimizer->steps,
        .lineage = state->lineage,
        .index = state->index,
        .state_digest = state->digest,
    };
    char path[PATH_MAX];

    header.sum = sum_of(&header, parameters, optimizer);
    unfinished_path(params, params->replica, path);
    FILE *file = fopen(path, "we");
    if (file == NULL)
        return trainer_fail("cannot write %s: %s", path, strerror(errno));
    bool written = write_all(file, &header, parameters, optimizer);
    int error = errno;
    if (fclose(file) != 0 && written) {
        written = false;
        error = errno;
    }
    return written ||
           trainer_fail("cannot write %s: %s", path, strerror(error));
}

// The name is on the disk only once its folder is.
static bool sync_folder_of(const char *path)
{
    char folder[PATH_MAX];

    snprintf(folder, sizeof(folder), "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash != NULL)
        slash[1] = '\0';
    int opened =
        open(slash != NULL ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (opened < 0)
        return false;
    bool synced = fsync(opened) == 0;
    close(opened);
    return synced;
}

bool checkpoint_keep(const struct checkpoint_params *params)
{
    char path[PATH_MAX];

    unfinished_path(params, params->replica, path);
    return (rename(path, params->path) == 0 && sync_folder_of(params->path)) ||
           trainer_fail("cannot keep %s: %s", params->path, strerror(errno));
}

static bool is_wanted(const struct header *header,
                      const tally_replica_state_t *wanted)
{
    // A later lineage may have begun with it: the digest tells what it is.
    return wanted == NULL || (header->index == wanted->index &&
                              header->state_digest == wanted->digest);
}

static bool read_rest(FILE *file, const struct header *header,
                      struct model *parameters, struct optimizer *optimizer)
{
    size_t count = optimizer->count;

    return fread(parameters, sizeof(*parameters), 1, file) == 1 &&
           fread(optimizer->moments[0], sizeof(float), count, file) == count &&
           fread(optimizer->moments[1], sizeof(float), count, file) == count &&
           header->sum == sum_of(header, parameters, optimizer);
}

// Returns NULL, or what is wrong with it; then the outcome is WRONG.
static const char *read_file(FILE *file, const struct checkpoint_params *params,
                             const tally_replica_state_t *wanted,
                             struct model *parameters,
                             struct optimizer *optimizer,
                             enum checkpoint_outcome *outcome)
{
    struct header header;

    *outcome = CHECKPOINT_WRONG;
    if (fread(&header, sizeof(header), 1, file) != 1 || header.magic != MAGIC)
        return "is no checkpoint";
    if (header.digest != params->digest)
        return "is of a run with other options";
    if (!is_wanted(&header, wanted)) {
        *outcome = CHECKPOINT_NONE;
        return NULL;
    }
    if (!read_rest(file, &header, parameters, optimizer))
        return "is broken";
    optimizer->steps = (long)header.steps;
    *outcome = CHECKPOINT_READ;
    return NULL;
}

// Published, and not in its place yet when its writer ended. One that is not
// whole is no published one.
static enum checkpoint_outcome
read_unfinished(const struct checkpoint_params *params,
                const tally_replica_state_t *wanted, struct model *parameters,
                struct optimizer *optimizer)
{
    enum checkpoint_outcome outcome = CHECKPOINT_NONE;

    for (int32_t replica = 0;
         replica < params->replicas && outcome != CHECKPOINT_READ; replica++) {
        char path[PATH_MAX];
        unfinished_path(params, replica, path);
        FILE *file = fopen(path, "re");
        if (file == NULL)
            continue;
        read_file(file, params, wanted, parameters, optimizer, &outcome);
        fclose(file);
    }
    return outcome == CHECKPOINT_READ ? outcome : CHECKPOINT_NONE;
}

enum checkpoint_outcome checkpoint_read(const struct checkpoint_params *params,
                                        const tally_replica_state_t *wanted,
                                        struct model *parameters,
                                        struct optimizer *optimizer)
{
    enum checkpoint_outcome outcome = CHECKPOINT_NONE;
    const char *why = NULL;
    FILE *file = fopen(params->path, "re");

    if (file != NULL) {
        why = read_file(file, params, wanted, parameters, optimizer, &outcome);
        fclose(file);
    } else if (errno != ENOENT) {
        why = "cannot be read";
        outcome = CHECKPOINT_WRONG;
    }
    if (why != NULL)
        trainer_fail("%s %s", params->path, why);
    if (outcome == CHECKPOINT_NONE && wanted != NULL)
        return read_unfinished(params, wanted, parameters, optimizer);
    return outcome;
}
