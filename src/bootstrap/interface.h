// SPDX-License-Identifier: BSD-3-Clause
// The network interface by which a rank is in the rendezvous: one that is known
// to lead to other ranks, unlike others that a host may have.
#ifndef BOOTSTRAP_INTERFACE_H
#define BOOTSTRAP_INTERFACE_H

#include <stdbool.h>

#include "bootstrap/link/socket.h"

struct interface {
    char name[32];                   // "eth0"; "": not known
    char address[SOCKET_TEXT_BYTES]; // "10.0.0.3", "fd00::3"
};

// The interface that has the address. False: none has.
bool interface_find(const struct socket_place *place, struct interface *out);

#endif
