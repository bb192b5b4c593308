// SPDX-License-Identifier: BSD-3-Clause
// Where Tally's step has its arrays, and so where the loss is computed: on the
// host, or on a GPU. The model itself is on the host in any case.
#ifndef TRAINER_DEVICE_H
#define TRAINER_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tally/tally.h>

enum device_array { DEVICE_LABELS, DEVICE_LOGITS, DEVICE_ARRAYS };

// A process's stream and arrays; on the host there is nothing to keep.
struct device_memory {
    tally_stream_t stream; // of all calls of a step
    struct {
        unsigned long long at;
        size_t bytes;
    } arrays[DEVICE_ARRAYS];
};

struct device {
    const char *name;
    tally_device_t device;
    // Before Tally's step is made. The ranks of a host share its GPUs in turn.
    bool (*open)(int32_t rank, struct device_memory *memory);
    void (*close)(struct device_memory *memory);
    // Where the step finds the values: themselves, or a copy on the stream,
    // which stays until the next of that array. NULL if that failed.
    void *(*give)(struct device_memory *memory, enum device_array array,
                  void *values, size_t bytes);
    // Back to the host when the stream has come there: the host waits.
    bool (*take)(struct device_memory *memory, void *to, const void *from,
                 size_t bytes);
};

extern const struct device device_host;
extern const struct device device_cuda; // device_cuda.c

// NULL: no device of that name.
const struct device *device_find(const char *name);

#endif
