// SPDX-License-Identifier: BSD-3-Clause
// What of the loop goes into the flight recorder.
#ifndef REPLICA_LOOP_RECORD_H
#define REPLICA_LOOP_RECORD_H

#include "replica/loop/state.h"

// A decision that was learnt.
void record_decision(struct replica_loop *loop,
                     const struct replica_action *action);
void record_report(struct replica_loop *loop, enum replica_status status);
// The trainer was told IN_DOUBT.
void record_doubt(struct replica_loop *loop);
// Where it is, and who is heard.
void record_view(struct replica_loop *loop);

#endif
