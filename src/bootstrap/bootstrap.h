// SPDX-License-Identifier: BSD-3-Clause
// The rendezvous: all ranks of a job find each other over TCP, in a radix-32
// tree under rank 0, check that they belong together, and stay connected until
// they leave. The tree then carries exchanges of any subset of ranks and the
// news of ranks that died or left (health.h). It never carries a step's data.
#ifndef BOOTSTRAP_BOOTSTRAP_H
#define BOOTSTRAP_BOOTSTRAP_H

#include "bootstrap/exchange.h"
#include "bootstrap/identity.h"
#include "bootstrap/interface.h"
#include "core/health.h"
#include "core/log.h"

#define BOOTSTRAP_RADIX_MAX 32

struct bootstrap_params {
    const struct identity *identity; // world_size >= 2
    const void *secret; // keys an HMAC-SHA256 of the hellos; NULL: none
    size_t secret_bytes;
    int32_t radix;       // of the tree, at all ranks; 0: BOOTSTRAP_RADIX_MAX
    int64_t timeout_us;  // for coming up, and for each exchange
    uint32_t abi;        // must be equal at all ranks: TALLY_ABI
    const char *version; // for messages: tally_version()
    // Lines "NAME=value\n" of the job-wide settings; must be equal at all
    // ranks. At most 4 KiB.
    const char *settings;
    const struct core_log *log;
    struct health *health; // borrowed until close
};

// Blocks until all ranks have come, or the timeout, or a refusal.
// Errors, each with a sentence that names ranks and values:
//   TIMEOUT    ranks did not come (their numbers); the root was not found
//   MISMATCH   world size, version, settings differ; a rank came twice;
//              another job, or another secret, is at the root's port
//   BOOTSTRAP  no candidate port was free; the connection broke
//   CONFIG, MEMORY, SYSTEM
tally_status_t bootstrap_open(const struct bootstrap_params *params,
                              struct exchange **out);

// The interface by which others reached this rank, or it them, on the way to
// the above; not the loopback, unless there was no other. Names "" if that
// cannot be told.
void bootstrap_interface(const struct exchange *exchange,
                         struct interface *out);
// For who goes on without some: the ranks that the last all-gather waited for
// in vain, if it ended with TIMEOUT or PEER. `exchange` is of bootstrap_open,
// `missing` has room for its group. Returns how many, 0 if it is not known.
int32_t bootstrap_missing(const struct exchange *exchange, int32_t *missing);

#endif
