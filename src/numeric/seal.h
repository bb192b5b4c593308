// SPDX-License-Identifier: BSD-3-Clause
// The seal of a record that others add up: a collective on a stream, which may
// hand on anything where one of its ranks is aborted. It rides in the reserved
// lane and is linear in the others, so the seals' sum tells whether a total is
// the sum of one record of each rank, for one reduction of one step object. The
// same code on host and device. It is no secret: it finds accidents.
#ifndef NUMERIC_SEAL_H
#define NUMERIC_SEAL_H

#include "numeric/mix.h"
#include "numeric/record.h"

// Odd, so that no rank's share of it is 0.
NUMERIC_FN uint64_t numeric_seal_key(uint64_t step, uint64_t sequence,
                                     uint32_t channel)
{
    return numeric_mix(numeric_mix(numeric_mix(step) ^ sequence) ^ channel) | 1;
}

// Linear in the lanes, modulo 2^64.
NUMERIC_FN uint64_t numeric_seal_digest(const struct numeric_record *record)
{
    const uint64_t factor = 0xd1342543de82ef95u;
    const int64_t lanes[] = {record->loss_hi,   record->loss_lo,
                             record->weight_hi, record->weight_lo,
                             record->count,     record->nonfinite,
                             record->bad_labels};
    uint64_t digest = 0;

    for (int i = 0; i < NUMERIC_LANES - 1; i++)
        digest = digest * factor + (uint64_t)lanes[i];
    return digest;
}

// rank: 0 .. ranks - 1, of the group.
NUMERIC_FN void numeric_record_seal(struct numeric_record *record, uint64_t key,
                                    int64_t rank)
{
    record->reserved =
        (int64_t)(numeric_seal_digest(record) + key * (uint64_t)(rank + 1));
}

// Of a total as it came: not folded.
NUMERIC_FN bool numeric_record_sealed(const struct numeric_record *total,
                                      uint64_t key, int64_t ranks)
{
    const uint64_t shares = (uint64_t)ranks * (uint64_t)(ranks + 1) / 2;

    return (uint64_t)total->reserved ==
           numeric_seal_digest(total) + key * shares;
}

#endif
