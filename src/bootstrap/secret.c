// SPDX-License-Identifier: BSD-3-Clause
// See secret.h.
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "bootstrap/secret.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#ifdef HAVE_CRYPTO
#include <openssl/evp.h>
#include <openssl/hmac.h>
#endif

#include "core/error.h"

#ifdef HAVE_CRYPTO

tally_status_t secret_check_supported(void)
{
    return TALLY_OK;
}

bool secret_mac(const void *secret, size_t secret_bytes, enum wire_type type,
                const uint8_t nonce[WIRE_NONCE_BYTES], const void *body,
                size_t bytes, uint8_t mac[WIRE_MAC_BYTES])
{
    size_t total = 1 + WIRE_NONCE_BYTES + bytes;
    unsigned int written = 0;
    uint8_t *text = malloc(total);

    if (text == NULL)
        return false;
    text[0] = (uint8_t)type;
    memcpy(text + 1, nonce, WIRE_NONCE_BYTES);
    if (bytes > 0)
        memcpy(text + 1 + WIRE_NONCE_BYTES, body, bytes);
    bool done = HMAC(EVP_sha256(), secret, (int)secret_bytes, text, total, mac,
                     &written) != NULL &&
                written == WIRE_MAC_BYTES;
    free(text);
    return done;
}

#else

tally_status_t secret_check_supported(void)
{
    return core_fail(TALLY_ERR_UNSUPPORTED,
                     "TALLY_SECRET is set, and this build has no libcrypto");
}

bool secret_mac(const void *secret, size_t secret_bytes, enum wire_type type,
                const uint8_t nonce[WIRE_NONCE_BYTES], const void *body,
                size_t bytes, uint8_t mac[WIRE_MAC_BYTES])
{
    (void)secret;
    (void)secret_bytes;
    (void)type;
    (void)nonce;
    (void)body;
    (void)bytes;
    (void)mac;
    return false;
}

#endif

bool secret_mac_equal(const uint8_t a[WIRE_MAC_BYTES],
                      const uint8_t b[WIRE_MAC_BYTES])
{
    uint8_t different = 0;

    for (int i = 0; i < WIRE_MAC_BYTES; i++)
        different |= a[i] ^ b[i];
    return different == 0;
}

tally_status_t secret_nonce(uint8_t nonce[WIRE_NONCE_BYTES])
{
    if (getrandom(nonce, WIRE_NONCE_BYTES, 0) != WIRE_NONCE_BYTES)
        return core_fail(TALLY_ERR_SYSTEM, "getrandom: %s", strerror(errno));
    return TALLY_OK;
}
