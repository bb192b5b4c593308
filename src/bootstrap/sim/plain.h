// SPDX-License-Identifier: BSD-3-Clause
// TCP between hosts of one process, in virtual time: connections, streams and
// readiness as link/network.h wants them. Nothing is lost but connections that
// find a listener's queue full; they are tried again as Linux does, after one
// second, two, four. Every host has one processor, which each call keeps busy.
#ifndef BOOTSTRAP_SIM_PLAIN_H
#define BOOTSTRAP_SIM_PLAIN_H

#include "bootstrap/link/network.h"

struct plain; // the network that all hosts share

struct plain_options {
    int32_t hosts;
    uint64_t seed;
    int64_t one_way_ns, jitter_ns, call_ns;
    int32_t backlog;
};

struct plain_counts {
    int64_t received, sent; // calls that moved bytes; a message is sent by one
    int64_t accepted;
    int64_t connections, connections_most; // open now, and at once
    int64_t busy_ns;
    int64_t turned_back;
};

// NULL: no memory.
struct plain *plain_create(const struct plain_options *options);
void plain_free(struct plain *plain);

// The network as a host sees it; freed with `plain`. Its port is the host's
// number, whatever is asked for: a place names a host.
struct network *plain_host(struct plain *plain, int32_t host);

// A host is to be woken at a time, also if nothing comes to it; INT64_MAX: not.
void plain_timer(struct plain *plain, int32_t host, int64_t time_ns);

// The host to which something happens next, its clock set to when; -1: nothing
// will happen any more.
int32_t plain_next(struct plain *plain);

int64_t plain_now_ns(const struct plain *plain, int32_t host);
struct plain_counts plain_counts(const struct plain *plain, int32_t host);

#endif
