// SPDX-License-Identifier: BSD-3-Clause
// The command line of the trainer.
#ifndef TRAINER_OPTIONS_H
#define TRAINER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "model/optimizer.h"

struct device;
struct train_mode;
struct train_order;

// A rank and a step, 0: never. For tests of what happens to the other ranks.
struct options_mishap {
    int64_t step;
    int32_t rank;
    int32_t pause_ms;
};

struct options {
    const struct train_mode *mode;
    const struct train_order *order;
    const struct optimizer_rule *rule;
    const struct device *device; // of the loss
    double learning_rate;
    int64_t steps;
    int32_t documents;     // a step
    int32_t micro_batches; // a rank and step
    int32_t ranks;         // that the documents are dealt to; 0: all there are
    int32_t replica;       // number of this replica
    int32_t replicas;
    int32_t evaluate_every;
    int32_t checkpoint_every; // steps
    uint64_t seed;
    const char *shared;     // NULL: none
    const char *library;    // of Tally
    const char *curve;      // file to write; NULL: none
    const char *members;    // file of the replicas in each step; NULL: none
    const char *checkpoint; // file to write, and to begin with; NULL: none
    struct options_mishap die;
    struct options_mishap pause;
    char *const *files;
    int file_count;
};

enum options_outcome { OPTIONS_RUN, OPTIONS_HELP, OPTIONS_WRONG };

// Reads the command line; what is wrong with it goes to stderr, and the help to
// stdout. The strings of *out are argv's.
enum options_outcome options_read(int argc, char **argv, struct options *out);

// Equal for all ranks of a run, not 0: a hash of what must be the same.
uint64_t options_digest(const struct options *options, const uint8_t *text,
                        uint64_t text_size);

#endif
