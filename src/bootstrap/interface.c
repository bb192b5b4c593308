// SPDX-License-Identifier: BSD-3-Clause
// See interface.h.
#include "bootstrap/interface.h"

#include <ifaddrs.h>
#include <stdio.h>
#include <string.h>

static bool has_address(const struct ifaddrs *one,
                        const struct socket_place *place)
{
    struct socket_place own;

    return one->ifa_addr != NULL && socket_place_take(one->ifa_addr, &own) &&
           memcmp(own.address, place->address, sizeof(own.address)) == 0;
}

bool interface_find(const struct socket_place *place, struct interface *out)
{
    struct ifaddrs *list;
    bool found = false;

    if (getifaddrs(&list) != 0)
        return false;
    for (struct ifaddrs *one = list; one != NULL && !found; one = one->ifa_next)
        if (has_address(one, place)) {
            snprintf(out->name, sizeof(out->name), "%s", one->ifa_name);
            socket_address_text(place, out->address);
            found = true;
        }
    freeifaddrs(list);
    return found;
}
