// SPDX-License-Identifier: BSD-3-Clause
// The tests, a file of them each.
#ifndef GPU_TESTS_H
#define GPU_TESTS_H

#include "gpu/job.h"

#define TEST(name)                                                             \
    {                                                                          \
        #name, name                                                            \
    }

extern const std::vector<struct test> tests_of_values, tests_of_tokens,
    tests_of_slots, tests_of_waits, tests_of_settling, tests_of_bits,
    tests_of_rows, tests_of_variants, tests_of_size;

// Less where EPOCHS asks for little, as under sanitizers.
int64_t test_rounds(int64_t plain);

// Runs a batch in every way that it can be, and compares each.
void run_and_check(const struct batch &batch, bool parallel);

#endif
