// SPDX-License-Identifier: BSD-3-Clause
// Which ranks of the job are known to be gone. Reporters (rendezvous sockets,
// pidfds, transport callbacks) write; the progress engine reads. It decides
// nothing: a report is a hint with a time.
#ifndef CORE_HEALTH_H
#define CORE_HEALTH_H

#include <stdbool.h>
#include <stdint.h>
#include <tally/tally.h>

struct health;

enum health_state {
    HEALTH_PRESENT = 0,
    HEALTH_LEFT = 1, // closed Tally in order
    HEALTH_DIED = 2, // its process ended, or its rendezvous link broke
    HEALTH_LOST = 3  // a transport lost it: a hint only
};

tally_status_t health_create(int32_t world_size, struct health **out);
void health_free(struct health *health);

// Any thread. The first report of a rank stands, but LOST gives way to the
// others.
void health_report(struct health *health, int32_t rank,
                   enum health_state state);

// Grows with every report; cheap enough for a hot path. Any thread.
uint32_t health_version(const struct health *health);

// The state of a rank, and when it was reported (CLOCK_MONOTONIC, us). Any
// thread.
enum health_state health_rank(const struct health *health, int32_t rank,
                              int64_t *reported_us);

#endif
