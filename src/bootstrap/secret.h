// SPDX-License-Identifier: BSD-3-Clause
// The keyed digest that shows that both sides of a connection know
// TALLY_SECRET, and random bytes for its nonces.
#ifndef BOOTSTRAP_SECRET_H
#define BOOTSTRAP_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <tally/tally.h>

#include "bootstrap/link/wire.h"

// Errors: UNSUPPORTED where this build has no libcrypto.
tally_status_t secret_check_supported(void);

// HMAC-SHA256 (RFC 2104) of the other side's nonce and a body without its MAC.
// The type keeps an answer from being taken for a hello.
bool secret_mac(const void *secret, size_t secret_bytes, enum wire_type type,
                const uint8_t nonce[WIRE_NONCE_BYTES], const void *body,
                size_t bytes, uint8_t mac[WIRE_MAC_BYTES]);

// In constant time.
bool secret_mac_equal(const uint8_t a[WIRE_MAC_BYTES],
                      const uint8_t b[WIRE_MAC_BYTES]);

// Errors: SYSTEM.
tally_status_t secret_nonce(uint8_t nonce[WIRE_NONCE_BYTES]);

#endif
