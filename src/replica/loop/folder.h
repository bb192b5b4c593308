// SPDX-License-Identifier: BSD-3-Clause
// Membership without a service: a folder that all processes of the job see,
// with one file for each incarnation that was started, which holds how it is
// reached. It tells who was started, never who has ended.
#ifndef REPLICA_LOOP_FOLDER_H
#define REPLICA_LOOP_FOLDER_H

#include <tally/tally.h>

#include "replica/names.h"

struct replica_folder;

// Creates the folder if it is not there. Errors: SYSTEM, MEMORY.
tally_status_t replica_folder_open(const char *path,
                                   struct replica_folder **out);
void replica_folder_close(struct replica_folder *folder);

// A number greater than that of every start of this peer before: the clock's,
// or the next where the clock has gone back. Errors: SYSTEM.
tally_status_t replica_folder_incarnation(struct replica_folder *folder,
                                          uint16_t peer, uint64_t *incarnation);

// Says where an incarnation is reached; older files of the peer are removed.
// Errors: SYSTEM.
tally_status_t replica_folder_tell(struct replica_folder *folder,
                                   struct replica_name name,
                                   const void *address, size_t bytes);

// Calls `seen` for the greatest incarnation of each peer below `peers`.
void replica_folder_look(struct replica_folder *folder, uint16_t peers,
                         void (*seen)(void *context, uint16_t peer,
                                      uint64_t incarnation, const void *address,
                                      size_t bytes),
                         void *context);

#endif
