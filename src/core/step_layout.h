// SPDX-License-Identifier: BSD-3-Clause
// The layout of a step, which must be equal at all ranks of its group: what is
// compared, how it travels, and the sentence about the first difference.
#ifndef CORE_STEP_LAYOUT_H
#define CORE_STEP_LAYOUT_H

#include "core/objects.h"

// The same number for equal layouts; with others differing almost surely.
uint64_t step_layout_digest(const tally_step_t *step);

// Sees that all ranks are ready and have this layout, and agrees on a tag space
// that is new to all of them. `own`: how this rank fared; if not well, it comes
// only to say so. Errors: MISMATCH, MEMORY, UNSUPPORTED, those of the exchange,
// and what another rank came to say.
tally_status_t step_layout_agree(tally_step_t *step, tally_status_t own,
                                 uint16_t *tag_space);

#endif
