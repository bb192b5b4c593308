// SPDX-License-Identifier: BSD-3-Clause
// What every TALLY_TAGGED_P2P backend must do, as bodies of the processes of a
// run (harness/processes.h) whose argument is a struct side_setup.
#ifndef CONFORMANCE_TAGGED_H
#define CONFORMANCE_TAGGED_H

#include "harness/processes.h"

// Any number of ranks.
void tagged_all_to_all(struct processes_member *member);

// Two ranks.
void tagged_sizes(struct processes_member *member);
void tagged_tags_in_any_order(struct processes_member *member);
void tagged_equal_tags_in_order(struct processes_member *member);
void tagged_many_outstanding(struct processes_member *member);
void tagged_short_receive(struct processes_member *member);
void tagged_message_after_short_receive(struct processes_member *member);
void tagged_cancel(struct processes_member *member);
void tagged_close_with_pending(struct processes_member *member);
void tagged_send_then_close(struct processes_member *member);
void tagged_close_flushes(struct processes_member *member);
// Or the transport says that it has no descriptor.
void tagged_wait_on_descriptor(struct processes_member *member);

// Two ranks; rank 1 is killed.
void tagged_peer_killed(struct processes_member *member);
void tagged_peer_stopped(struct processes_member *member);

// Three ranks; rank 1 is killed. In place of tagged_peer_killed where the
// library may never tell: nobody else is harmed, and nothing is held up.
void tagged_peer_killed_untold(struct processes_member *member);

#endif
