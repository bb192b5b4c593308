// SPDX-License-Identifier: BSD-3-Clause
// The flight recorder of a coordinator or a witness: the last steps, who was in
// them and why they ended so, counters, and who is there now. Written as JSON
// to a file on SIGUSR1 and on error, and to whoever connects to its socket
// (tally_info --replicas). It changes nothing of what it records.
//
// Threads: any, on one object; a call takes a lock for well under a microsecond
// and never waits for a file. All but open take NULL, and do nothing then.
#ifndef RECORDER_RECORDER_H
#define RECORDER_RECORDER_H

#include <stdbool.h>
#include <tally/tally.h>

#include "core/log.h"
#include "replica/names.h"

#define RECORDER_STEPS 256

struct recorder;

enum recorder_counter {
    RECORDER_COUNTED,   // decisions of attempt 0 with this replica in them
    RECORDER_EXCLUDED,  // without it
    RECORDER_ABORTED,   // of nobody
    RECORDER_APPLIED,   // optimizer steps
    RECORDER_RETRIED,   // gradients to be reduced again
    RECORDER_DISCARDED, // steps that were not applied
    RECORDER_IN_DOUBT,  // deadlines that passed
    RECORDER_EPOCHS,    // changes of membership
    RECORDER_REFUSED,   // messages not to be understood
    RECORDER_SUSPECTED, // peers that were thought dead
    RECORDER_PROVIDER,  // times that the provider was not reached
    RECORDER_COUNTERS
};

// One decision, or what came in its place.
struct recorder_step {
    uint32_t lineage;
    uint32_t epoch;
    struct replica_instance instance;
    uint64_t members;  // that count, or apply; bit r: replica r
    const char *what;  // "COUNT", "APPLY", "IN_DOUBT", ...; a literal
    const char *why;   // a literal; NULL: nothing to add
    int64_t waited_us; // from the first that was said about it; -1: not known
};

// Who is there now.
struct recorder_view {
    uint32_t lineage;
    uint32_t epoch;
    struct replica_instance next;
    uint64_t members;   // of the epoch
    uint64_t acceptors; // of the epoch
    uint64_t heard;     // peers that are not thought dead
    const char *state;  // "counting", "fenced", "stopped", ...; a literal
};

struct recorder_params {
    const char *folder; // for the socket and the dumps; made if it is not there
    const char *job;
    struct replica_name self;
    bool witness;
    const struct core_log *log; // borrowed until close
};

// Starts a thread and listens at FOLDER/tally-PID-PEER.sock, which only this
// user may connect to. Takes SIGUSR1 where nobody has, until the last close.
// Errors: SYSTEM, MEMORY, CONFIG (a path that is too long).
tally_status_t recorder_open(const struct recorder_params *params,
                             struct recorder **out);
void recorder_close(struct recorder *recorder);

void recorder_step(struct recorder *recorder, const struct recorder_step *step);
void recorder_view(struct recorder *recorder, const struct recorder_view *view);
void recorder_add(struct recorder *recorder, enum recorder_counter counter,
                  uint64_t count);

// Something went wrong (a literal): writes FOLDER/tally-PID-PEER.json soon, at
// most once a second.
void recorder_error(struct recorder *recorder, const char *why);

#endif
