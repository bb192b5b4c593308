// SPDX-License-Identifier: BSD-3-Clause
// The inside of the recorder: what it keeps (recorder.c), the forms it is
// written in (form.c), and SIGUSR1 (signal.c).
#ifndef RECORDER_STATE_H
#define RECORDER_STATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "core/park.h"
#include "recorder/recorder.h"

#define RECORDER_PATH_BYTES 108 // of a socket
#define RECORDER_JOB_BYTES 128

// What a viewer asks for, with one byte.
enum recorder_form { RECORDER_JSON = 'j', RECORDER_TEXT = 't' };

struct recorder_entry {
    struct recorder_step step;
    int64_t at_us; // since 1970
};

// All that is written; copied under the lock.
struct recorder_content {
    char job[RECORDER_JOB_BYTES];
    struct replica_name self;
    bool witness;
    struct recorder_view view;
    uint64_t counters[RECORDER_COUNTERS];
    uint64_t count; // of steps, ever
    struct recorder_entry entries[RECORDER_STEPS];
};

struct recorder {
    const struct core_log *log;
    char socket_path[RECORDER_PATH_BYTES];
    char dump_path[RECORDER_PATH_BYTES];
    int listener;
    int wake_fd;
    atomic_bool stop;
    struct park_thread thread;

    pthread_mutex_t lock;
    const char *error; // to be written; NULL: none
    struct recorder_content content;
};

// form.c. `why` it is written.
void recorder_write_json(FILE *out, const struct recorder_content *content,
                         const char *why);
void recorder_write_text(FILE *out, const struct recorder_content *content);

// signal.c: SIGUSR1 adds 1 to the eventfd, until forgotten. Where the signal
// has a handler already, it stays.
void recorder_signal_add(int event_fd);
void recorder_signal_remove(int event_fd);

#endif
