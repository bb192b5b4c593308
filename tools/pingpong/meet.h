// SPDX-License-Identifier: BSD-3-Clause
// How the two sides of a ping-pong find each other: one TCP connection, which
// carries their addresses and no message that is measured. What fails ends the
// process.
#ifndef PINGPONG_MEET_H
#define PINGPONG_MEET_H

#include <stddef.h>

// Waits for the other; for at most a minute, as does connect.
int meet_listen(const char *port);
int meet_connect(const char *address_and_port);

// Sends `bytes` of the buffer and puts there what the other sent; returns its
// length. Both sides call it.
size_t meet_swap(int other, void *buffer, size_t bytes, size_t room);

#endif
