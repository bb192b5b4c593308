// SPDX-License-Identifier: BSD-3-Clause
// Networks as they were published, for what is simulated of them.
#ifndef BENCH_PROFILES_H
#define BENCH_PROFILES_H

#include <stdint.h>

struct profile {
    const char *name;
    const char *title;
    // As a ping-pong sees it, half a round trip: with both overheads.
    int64_t one_way_ns;
    int64_t overhead_ns; // of a call that sends, and of one that receives
    int64_t jitter_ns;
    int64_t bytes_per_us;
    const char *source;
};

static const struct profile profiles[] = {
    {"infiniband", "InfiniBand", 1500, 300, 200, 25000,
     "Shamis et al., \"UCX: An Open Source Framework for HPC Network APIs and "
     "Beyond\", HOTI 2015: 0.89 us between two hosts; the rest is left to "
     "switches"},
    {"efa", "EFA", 15000, 1000, 2000, 12500,
     "Chakraborty et al., \"Designing Scalable and High-Performance MPI "
     "Libraries on Amazon Elastic Fabric Adapter\", HOTI 2019; Shalev et al., "
     "\"A Cloud-Optimized Transport Protocol for Elastic and Scalable HPC\", "
     "IEEE Micro 40(6), 2020"},
    {"tcp", "TCP", 25000, 1500, 5000, 3125,
     "Firestone et al., \"Azure Accelerated Networking: SmartNICs in the "
     "Public Cloud\", NSDI 2018: below 15 us between virtual machines where "
     "hardware helps; the rest is left to hosts where none does"},
};

#define PROFILES (sizeof(profiles) / sizeof(profiles[0]))

#endif
