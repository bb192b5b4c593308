// SPDX-License-Identifier: BSD-3-Clause
// See options.h.
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "fail.h"
#include "model/text.h"
#include "train.h"

#define COUNT_MAX 1000000 // of steps, documents, ranks, micro-batches

static const char help[] =
    "Usage: trainer [OPTION]... [FILE]...\n"
    "Trains a small byte-level language model on the FILEs, by default\n"
    "" TEXT_DEFAULT_FILES ", and lets every token count once.\n"
    "\n"
    "  --mode MODE            balanced (default): Tally counts the tokens of "
    "all\n"
    "                         ranks; reference: one process has all the data;\n"
    "                         naive: the mean of the ranks' means; replicas: "
    "one\n"
    "                         of several replica groups (with --order late)\n"
    "  --order ORDER          first (default): count, then scale the gradient "
    "of\n"
    "                         the loss; late: scale the gradients afterwards\n"
    "  --device DEVICE        host (default), or cuda: the loss runs on a "
    "GPU\n"
    "  --steps N              optimizer steps (120)\n"
    "  --documents N          documents in a step, of all ranks (16)\n"
    "  --micro-batches M      micro-batches in a step, of each rank (2)\n"
    "  --ranks N              with --mode reference: do the work of N ranks\n"
    "  --replica N            with --mode replicas: which one this is (0)\n"
    "  --replicas N           and of how many; with --mode reference: so many "
    "did\n"
    "                         the work (1)\n"
    "  --members FILE         write there which replicas were counted in each "
    "step;\n"
    "                         with --mode reference: leave out the others\n"
    "  --checkpoint FILE      with --mode replicas: begin with the model in "
    "there, if\n"
    "                         it is there, and write it there now and then\n"
    "  --checkpoint-every N   after every N steps (20)\n"
    "  --optimizer RULE       adam (default) or sgd\n"
    "  --learning-rate X      default: 0.003 for adam, 0.3 for sgd\n"
    "  --seed N               of parameters and data (1)\n"
    "  --shared NAME          shared memory in which ranks sum their "
    "gradients;\n"
    "                         the same for all ranks, new for each run\n"
    "  --tally FILE           the library (libtally.so, found by the loader)\n"
    "  --curve FILE           write the loss curve there (rank 0)\n"
    "  --evaluate-every N     held-out loss every N steps, 0: never (5)\n"
    "  --help                 this text\n"
    "\n"
    "Who am I, of how many, comes from Tally, which knows tally_run, "
    "torchrun,\n"
    "Slurm and Open MPI. Two more options are for tests: --die-at STEP:RANK "
    "kills\n"
    "that rank there, --pause-at STEP:RANK:MS makes it sleep.\n";

enum {
    OPTION_MODE = 1,
    OPTION_ORDER,
    OPTION_DEVICE,
    OPTION_STEPS,
    OPTION_DOCUMENTS,
    OPTION_MICRO_BATCHES,
    OPTION_RANKS,
    OPTION_REPLICA,
    OPTION_REPLICAS,
    OPTION_MEMBERS,
    OPTION_CHECKPOINT,
    OPTION_CHECKPOINT_EVERY,
    OPTION_OPTIMIZER,
    OPTION_LEARNING_RATE,
    OPTION_SEED,
    OPTION_SHARED,
    OPTION_TALLY,
    OPTION_CURVE,
    OPTION_EVALUATE_EVERY,
    OPTION_DIE_AT,
    OPTION_PAUSE_AT,
    OPTION_HELP
};

static const struct option long_options[] = {
    {"mode", required_argument, NULL, OPTION_MODE},
    {"order", required_argument, NULL, OPTION_ORDER},
    {"device", required_argument, NULL, OPTION_DEVICE},
    {"steps", required_argument, NULL, OPTION_STEPS},
    {"documents", required_argument, NULL, OPTION_DOCUMENTS},
    {"micro-batches", required_argument, NULL, OPTION_MICRO_BATCHES},
    {"ranks", required_argument, NULL, OPTION_RANKS},
    {"replica", required_argument, NULL, OPTION_REPLICA},
    {"replicas", required_argument, NULL, OPTION_REPLICAS},
    {"members", required_argument, NULL, OPTION_MEMBERS},
    {"checkpoint", required_argument, NULL, OPTION_CHECKPOINT},
    {"checkpoint-every", required_argument, NULL, OPTION_CHECKPOINT_EVERY},
    {"optimizer", required_argument, NULL, OPTION_OPTIMIZER},
    {"learning-rate", required_argument, NULL, OPTION_LEARNING_RATE},
    {"seed", required_argument, NULL, OPTION_SEED},
    {"shared", required_argument, NULL, OPTION_SHARED},
    {"tally", required_argument, NULL, OPTION_TALLY},
    {"curve", required_argument, NULL, OPTION_CURVE},
    {"evaluate-every", required_argument, NULL, OPTION_EVALUATE_EVERY},
    {"die-at", required_argument, NULL, OPTION_DIE_AT},
    {"pause-at", required_argument, NULL, OPTION_PAUSE_AT},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

static bool read_integer(const char *name, const char *text, int64_t least,
                         int64_t most, int64_t *out)
{
    char *end;

    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < least ||
        value > most)
        return trainer_fail("--%s %s: not an integer from %lld to %lld", name,
                            text, (long long)least, (long long)most);
    *out = value;
    return true;
}

static bool read_count(const char *name, const char *text, int32_t least,
                       int32_t *out)
{
    int64_t value = 0;

    if (!read_integer(name, text, least, COUNT_MAX, &value))
        return false;
    *out = (int32_t)value;
    return true;
}

static bool read_rate(const char *text, double *out)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end != '\0' || !isfinite(value) || value <= 0)
        return trainer_fail("--learning-rate %s: not a number above 0", text);
    *out = value;
    return true;
}

// STEP:RANK, or STEP:RANK:MS.
static bool read_mishap(const char *name, const char *text, bool with_ms,
                        struct options_mishap *out)
{
    long long step;
    int rank, pause_ms;
    char rest;
    int got = sscanf(text, "%lld:%d:%d%c", &step, &rank, &pause_ms, &rest);

    if (got != (with_ms ? 3 : 2) || step < 1 || rank < 0 ||
        (with_ms && pause_ms < 0))
        return trainer_fail("--%s %s: not STEP:RANK%s", name, text,
                            with_ms ? ":MS" : "");
    out->step = step;
    out->rank = rank;
    out->pause_ms = with_ms ? pause_ms : 0;
    return true;
}

static bool read_mode(const char *text, struct options *options)
{
    options->mode = train_mode_find(text);
    return options->mode != NULL ||
           trainer_fail("--mode %s: there is balanced, reference, naive "
                        "and replicas",
                        text);
}

static bool read_order(const char *text, struct options *options)
{
    options->order = train_order_find(text);
    return options->order != NULL ||
           trainer_fail("--order %s: there is first and late", text);
}

static bool read_device(const char *text, struct options *options)
{
    options->device = device_find(text);
    return options->device != NULL ||
           trainer_fail("--device %s: there is host and cuda", text);
}

static bool read_rule(const char *text, struct options *options)
{
    options->rule = optimizer_rule_find(text);
    return options->rule != NULL ||
           trainer_fail("--optimizer %s: there is adam and sgd", text);
}

static bool read_seed(const char *text, struct options *options)
{
    int64_t seed = 0;

    if (!read_integer("seed", text, 0, INT64_MAX, &seed))
        return false;
    options->seed = (uint64_t)seed;
    return true;
}

static bool read_option(int option, const char *text, struct options *out)
{
    switch (option) {
    case OPTION_MODE:
        return read_mode(text, out);
    case OPTION_ORDER:
        return read_order(text, out);
    case OPTION_DEVICE:
        return read_device(text, out);
    case OPTION_STEPS:
        return read_integer("steps", text, 1, COUNT_MAX, &out->steps);
    case OPTION_DOCUMENTS:
        return read_count("documents", text, 1, &out->documents);
    case OPTION_MICRO_BATCHES:
        return read_count("micro-batches", text, 1, &out->micro_batches);
    case OPTION_RANKS:
        return read_count("ranks", text, 1, &out->ranks);
    case OPTION_REPLICA:
        return read_count("replica", text, 0, &out->replica);
    case OPTION_REPLICAS:
        return read_count("replicas", text, 1, &out->replicas);
    case OPTION_MEMBERS:
        out->members = text;
        return true;
    case OPTION_CHECKPOINT:
        out->checkpoint = text;
        return true;
    case OPTION_CHECKPOINT_EVERY:
        return read_count("checkpoint-every", text, 1, &out->checkpoint_every);
    case OPTION_OPTIMIZER:
        return read_rule(text, out);
    case OPTION_LEARNING_RATE:
        return read_rate(text, &out->learning_rate);
    case OPTION_SEED:
        return read_seed(text, out);
    case OPTION_SHARED:
        out->shared = text;
        return true;
    case OPTION_TALLY:
        out->library = text;
        return true;
    case OPTION_CURVE:
        out->curve = text;
        return true;
    case OPTION_EVALUATE_EVERY:
        return read_count("evaluate-every", text, 0, &out->evaluate_every);
    case OPTION_DIE_AT:
        return read_mishap("die-at", text, false, &out->die);
    case OPTION_PAUSE_AT:
        return read_mishap("pause-at", text, true, &out->pause);
    default: // getopt_long has said what is wrong
        return false;
    }
}

enum options_outcome options_read(int argc, char **argv, struct options *out)
{
    struct options options = {
        .mode = train_mode_find("balanced"),
        .order = train_order_find("first"),
        .rule = optimizer_rule_find("adam"),
        .device = &device_host,
        .steps = 120,
        .documents = 16,
        .micro_batches = 2,
        .replicas = 1,
        .evaluate_every = 5,
        .checkpoint_every = 20,
        .seed = 1,
        .library = "libtally.so",
    };
    int option;

    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (option == OPTION_HELP) {
            fputs(help, stdout);
            return OPTIONS_HELP;
        }
        if (!read_option(option, optarg, &options)) {
            fputs("Try: trainer --help\n", stderr);
            return OPTIONS_WRONG;
        }
    }
    if (options.learning_rate == 0)
        options.learning_rate = options.rule->learning_rate;
    options.files = argv + optind;
    options.file_count = argc - optind;
    *out = options;
    return OPTIONS_RUN;
}

// FNV-1a.
static uint64_t hash(uint64_t state, const void *bytes, uint64_t size)
{
    const uint8_t *byte = bytes;

    for (uint64_t i = 0; i < size; i++)
        state = (state ^ byte[i]) * 0x100000001b3u;
    return state;
}

uint64_t options_digest(const struct options *options, const uint8_t *text,
                        uint64_t text_size)
{
    const uint64_t numbers[] = {
        (uint64_t)options->steps,         (uint64_t)options->documents,
        (uint64_t)options->micro_batches, (uint64_t)options->ranks,
        (uint64_t)options->replicas,      options->seed,
    };
    const char *const names[] = {options->mode->name, options->order->name,
                                 options->rule->name};
    uint64_t state = 0xcbf29ce484222325u;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        state = hash(state, names[i], strlen(names[i]));
    state = hash(state, numbers, sizeof(numbers));
    state = hash(state, &options->learning_rate, sizeof(double));
    state = hash(state, text, text_size);
    return state | 1;
}
