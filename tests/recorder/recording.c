// SPDX-License-Identifier: BSD-3-Clause
// A process with a flight recorder, for test_recorder.sh:
//     recording FOLDER STEPS [error]
// records as many steps, says an error if it is to, prints "ready", and goes on
// until its stdin ends.
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "recorder/recorder.h"

static void record(struct recorder *recorder, uint64_t steps)
{
    for (uint64_t i = 1; i <= steps; i++) {
        const struct recorder_step step = {
            .lineage = 1,
            .epoch = 2,
            .instance = {i, i % 2 == 0},
            .members = 5,
            .what = i % 2 == 0 ? "APPLY" : "COUNT",
            .why = i % 2 == 0 ? NULL : "all entered",
            .waited_us = i % 2 == 0 ? -1 : 1234,
        };
        recorder_step(recorder, &step);
        recorder_add(recorder, RECORDER_COUNTED, i % 2);
    }
}

int main(int argc, char **argv)
{
    struct pollfd input = {STDIN_FILENO, POLLIN, 0};
    char byte;
    static const struct core_log log = {.level = TALLY_LOG_INFO, .rank = -1};
    const struct recorder_view view = {
        .lineage = 1,
        .epoch = 2,
        .next = {901, 0},
        .members = 5,
        .acceptors = 7,
        .heard = 4,
        .state = "counting",
    };
    struct recorder_params params = {
        .job = "a \"job\"\\\n\xe9",
        .self = {3, 0, UINT64_MAX},
        .log = &log,
    };
    struct recorder *recorder = NULL;
    struct recorder *second = NULL;

    if (argc < 3)
        return 2;
    params.folder = argv[1];
    if (recorder_open(&params, &recorder) != TALLY_OK) {
        fprintf(stderr, "%s\n", core_error_text());
        return 1;
    }
    recorder_view(recorder, &view);
    record(recorder, strtoull(argv[2], NULL, 10));
    if (argc > 3)
        recorder_error(recorder, argv[3]);
    // A witness of the same process.
    params.self.peer = 4;
    params.witness = true;
    if (recorder_open(&params, &second) != TALLY_OK)
        return 1;
    puts("ready");
    fflush(stdout);
    // Not in read: within it the thread sanitizer keeps signals back.
    while (poll(&input, 1, -1) < 0 || read(STDIN_FILENO, &byte, 1) > 0)
        ;
    recorder_close(second);
    recorder_close(recorder);
    recorder_close(NULL);
    recorder_step(NULL, &(struct recorder_step){.what = "COUNT"});
    return 0;
}
