// SPDX-License-Identifier: BSD-3-Clause
// A server that is not etcd: it answers every request with the same bytes.
#ifndef TESTS_QUORUM_DOUBLE_H
#define TESTS_QUORUM_DOUBLE_H

#include <stddef.h>
#include <stdint.h>

struct double_answer {
    const char *bytes; // of the whole answer; NULL: it says nothing, ever
    size_t length;
    int slow_ms; // between its bytes
};

// Returns the port. One at a time.
uint16_t double_start(const struct double_answer *answer);
void double_stop(void);

#endif
