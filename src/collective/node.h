// SPDX-License-Identifier: BSD-3-Clause
// The node stage: ranks of one node hand each other lanes through slots in a
// segment. It knows nothing of other nodes, and makes no system call unless a
// rank of the node sleeps.
//
// A slot is made of lines of 64 bytes, seven lanes and the sequence number of
// the reduction they belong to, so that lanes and the news of them cross
// between cores as one cache line. A record is one line (its eighth lane is 0
// and does not travel); then MAX lanes follow, seven a line.
//
// Two buffers a slot, by the parity of the sequence, suffice. Each rank first
// writes its own slot, then reads: so who writes for reduction s + 2 has seen
// s + 1 of everybody it waits for, and they began s + 1 only after they had
// read all they wanted of s, which is what s + 2 writes over. (With a leader:
// members wait for its result of s + 1, which it wrote after it had all of
// theirs.)
#ifndef COLLECTIVE_NODE_H
#define COLLECTIVE_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tally/tally.h>

struct node;

struct node_shape {
    int32_t local_size;
    uint32_t records;
    uint32_t max_lanes;
};

// What the segment of a node must have.
size_t node_bytes(const struct node_shape *shape);

struct node_params {
    struct node_shape shape;
    int32_t local_index;
    bool gathers; // reads the slots of the others; else only takes the result
    void *memory; // node_bytes, zeroed before any rank of the node begins;
                  // borrowed until free
};

tally_status_t node_create(const struct node_params *params, struct node **out);
void node_free(struct node *node);

// Begins reduction `sequence` (1, 2, ...): writes the own slot.
void node_write(struct node *node, uint64_t sequence, const int64_t *lanes);

// Adds to total what has come from the other ranks. OK: all of it. NOT_YET.
tally_status_t node_gather(struct node *node, int64_t *total);

// The leader hands out the result; the others take it. OK or NOT_YET.
void node_publish(struct node *node, const int64_t *total);
tally_status_t node_take(struct node *node, int64_t *total);

// Before a sleep until something comes for gather or (who does not gather)
// take: *word will differ from *seen, and who sleeps on it (futex) is woken.
// NOT_YET: it is there now. UNSUPPORTED: nobody would wake it.
tally_status_t node_arm(struct node *node, _Atomic uint32_t **word,
                        uint32_t *seen);

// The lowest local index whose slot is not complete; -1: all are.
int32_t node_awaited(const struct node *node);

// What the leader is waiting for beyond the node (a rank of the group, -1),
// told to the members.
void node_remote_tell(struct node *node, int32_t rank);
int32_t node_remote(const struct node *node);

#endif
