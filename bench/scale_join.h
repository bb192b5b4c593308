// SPDX-License-Identifier: BSD-3-Clause
// How many simulated ranks find each other: the rendezvous' part of scale.
#ifndef BENCH_SCALE_JOIN_H
#define BENCH_SCALE_JOIN_H

#include <tally/tally.h>

#include "json.h"

// Prints the array "joins", of up to `max` ranks.
tally_status_t joins_measure(struct json *json, int32_t max);

#endif
