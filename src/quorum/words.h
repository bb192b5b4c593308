// SPDX-License-Identifier: BSD-3-Clause
// Words in what members write, least significant byte first. Each returns where
// the next one is.
#ifndef QUORUM_WORDS_H
#define QUORUM_WORDS_H

#include <stdint.h>

static inline uint8_t *word_put(uint8_t *at, uint64_t word, int bytes)
{
    for (int i = 0; i < bytes; i++)
        at[i] = (uint8_t)(word >> 8 * i);
    return at + bytes;
}

static inline const uint8_t *word_get(const uint8_t *at, uint64_t *word,
                                      int bytes)
{
    *word = 0;
    for (int i = 0; i < bytes; i++)
        *word |= (uint64_t)at[i] << 8 * i;
    return at + bytes;
}

#endif
