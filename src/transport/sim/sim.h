// SPDX-License-Identifier: BSD-3-Clause
// A network in virtual time between ranks of one process, behind the tagged
// interface of tally/transport.h. It is a convenience library that tools and
// tests link: not a backend that is loaded, nor one that a job could choose.
//
// The model: a message costs its sender's processor the send overhead; leaves
// through the sender's card, one message after the other; is on its way for the
// latency and a jitter of its own; comes in through the receiver's card, one
// after the other; and costs the receiver's processor the receive overhead.
// What ranks do otherwise takes no time, and what lies between cards is never
// full. Messages of one rank to one other stay in order, others do not.
//
// Nothing here reads a clock or has a thread: all depends on the options and
// the calls alone.
#ifndef TRANSPORT_SIM_SIM_H
#define TRANSPORT_SIM_SIM_H

#include <stdbool.h>
#include <tally/transport.h>

struct sim_network;

#define SIM_NOBODY (-1)
#define SIM_ANYBODY (-1)

struct sim_options {
    uint64_t seed;
    int64_t latency_ns; // from card to card
    int64_t jitter_ns;  // up to so much more, all values alike
    int64_t send_overhead_ns;
    int64_t receive_overhead_ns;
    int64_t bytes_per_us; // of a card, in and out each; 0: any number
    int32_t slow;         // a rank whose overheads are longer; SIM_NOBODY
    int64_t slow_ns;      // by so much, of each message
};

tally_status_t sim_network_create(int32_t size,
                                  const struct sim_options *options,
                                  struct sim_network **out);

// Closes what is still open.
void sim_network_free(struct sim_network *network);

// From now on, for messages that are not sent yet.
void sim_network_change(struct sim_network *network,
                        const struct sim_options *options);

// open takes the network as host->context; this fills in a host. One at a time
// for each rank.
const struct tally_transport_ops *sim_network_ops(void);
tally_status_t sim_network_open(struct sim_network *network, int32_t rank,
                                tally_transport_t **out);

// What leaves `source` for `destination` (SIM_ANYBODY) at this time or later is
// lost, and neither learns of it.
tally_status_t sim_network_cut(struct sim_network *network, int32_t source,
                               int32_t destination, int64_t from_ns);

// Something happens to a rank that is open: a message came, for the transport's
// progress to take, or a timer ended.
typedef void (*sim_wake_fn)(void *context, int32_t rank);

tally_status_t sim_network_timer(struct sim_network *network, int32_t rank,
                                 int64_t time_ns);

// Lets the next thing happen. False: nothing will happen any more.
bool sim_network_step(struct sim_network *network, sim_wake_fn wake,
                      void *context);

// The time of the last thing that happened.
int64_t sim_network_now(const struct sim_network *network);

// When the processor of a rank that is open has done all it was given.
int64_t sim_network_rank_now(const struct sim_network *network, int32_t rank);

// Of all that happened so far, in its order.
uint64_t sim_network_digest(const struct sim_network *network);

struct sim_counts {
    int32_t connected; // endpoints
    uint32_t sent;     // messages, those lost among them
    uint32_t lost;     // of those sent
    uint32_t received; // by progress
    uint32_t posted;   // receives that wait
};

// Of a rank that is open.
struct sim_counts sim_network_counts(const struct sim_network *network,
                                     int32_t rank);

#endif
