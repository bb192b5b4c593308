// SPDX-License-Identifier: BSD-3-Clause
// libFuzzer target: the bodies of the rendezvous' frames. Whatever the decoders
// take, the encoders give back to the byte, in just the room that they ask for.
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bootstrap/link/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes);

// What was taken must come back. `encode` writes into `room` bytes.
#define ROUND_TRIP(kind)                                                       \
    do {                                                                       \
        struct wire_##kind decoded;                                            \
        if (!wire_##kind##_decode(body, bytes, &decoded))                      \
            break;                                                             \
        size_t room = wire_##kind##_encode(&decoded, NULL, 0);                 \
        unsigned char *out = malloc(room > 0 ? room : 1);                      \
        assert(out != NULL);                                                   \
        assert(wire_##kind##_encode(&decoded, out, room) == room);             \
        struct wire_##kind again;                                              \
        assert(wire_##kind##_decode(out, room, &again));                       \
        free(out);                                                             \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes)
{
    struct wire_header header;
    const uint8_t *body;

    if (bytes < WIRE_HEADER_BYTES)
        return 0;
    // The type comes from the header, the body is what is there.
    (void)wire_header_decode(input, &header);
    uint8_t type = input[2] % WIRE_TYPE_COUNT;
    body = input + WIRE_HEADER_BYTES;
    bytes -= WIRE_HEADER_BYTES;
    switch (type) {
    case WIRE_HELLO:
        ROUND_TRIP(hello);
        break;
    case WIRE_REDIRECT:
        ROUND_TRIP(place);
        break;
    case WIRE_LATER:
        ROUND_TRIP(later);
        break;
    case WIRE_REFUSE:
        ROUND_TRIP(refuse);
        break;
    case WIRE_NEWS:
        ROUND_TRIP(news);
        break;
    case WIRE_GATHER:
        ROUND_TRIP(gather);
        break;
    case WIRE_RESULT:
        ROUND_TRIP(result);
        break;
    case WIRE_FAILURE:
        ROUND_TRIP(failure);
        break;
    default:
        break;
    }
    return 0;
}
