// SPDX-License-Identifier: BSD-3-Clause
// A library by itself, without Tally's messages: one endpoint to one peer, on
// the resources that Tally's backend would choose by the same variables. One
// program has one of them (ucx.c, ofi.c). What fails ends the process.
#ifndef PINGPONG_RAW_H
#define PINGPONG_RAW_H

#include <stddef.h>
#include <tally/transport.h>

#define RAW_ADDRESS_BYTES_MAX 4096
#define RAW_MESSAGE_BYTES_MAX 8192
#define RAW_TAG 1

struct raw; // one a process

// What a backend's files are lent here: settings from the environment.
extern const tally_transport_host_t raw_host;
// What core tells a backend, without an interface: that is what is asked for.
extern const tally_transport_params_t raw_params;

// A line on stderr and exit(1).
_Noreturn void raw_die(const char *what, const char *why);

struct raw *raw_open(void);
void raw_close(struct raw *raw);
// "UCX 1.13.1", "libfabric 1.17, tcp;ofi_rxm".
const char *raw_library(const struct raw *raw);

size_t raw_address(struct raw *raw, void *address);
void raw_connect(struct raw *raw, const void *address, size_t bytes);

// The message is out, as far as this side is concerned.
void raw_send(struct raw *raw, const void *message, size_t bytes);
// Posted before it is waited for; one at a time.
void raw_receive_post(struct raw *raw, void *message, size_t bytes);
void raw_receive_wait(struct raw *raw);

#endif
