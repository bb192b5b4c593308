// SPDX-License-Identifier: BSD-3-Clause
// An all-gather in which the ranks of a group also learn whether all are well,
// so that a failure of one ends a set-up at all of them instead of leaving the
// others to wait.
#ifndef COLLECTIVE_AGREEMENT_H
#define COLLECTIVE_AGREEMENT_H

#include "bootstrap/exchange.h"

// Gathers `bytes` bytes of each rank into recv[count][bytes] (0 bytes: only the
// verdicts). `own`: how this rank fared; its sentence is the thread's last one.
// Returns OK if all ranks said OK; else the own failure; else that of the
// lowest rank that failed, its sentence with it. recv is written only for OK.
tally_status_t agreement_gather(struct exchange *exchange,
                                struct exchange_group *group,
                                tally_status_t own, const void *send,
                                void *recv, size_t bytes);

#endif
