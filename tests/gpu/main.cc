// SPDX-License-Identifier: BSD-3-Clause
// Tests of the kernels, on the emulator or a GPU: runs all, or those whose name
// contains the first argument.
#include <string.h>

#include "gpu/job.h"
#include "gpu/tests.h"

static bool failed;

void test_failed(const char *file, int line)
{
    failed = true;
    printf("%s:%d: ", file, line);
}

bool test_has_failed()
{
    return failed;
}

int main(int argc, char **argv)
{
    static const std::vector<struct test> *const all[] = {
        &tests_of_values, &tests_of_tokens,   &tests_of_slots,
        &tests_of_waits,  &tests_of_settling, &tests_of_bits,
        &tests_of_rows,   &tests_of_variants, &tests_of_size};
    int checks = 0;
    int failures = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    for (const std::vector<struct test> *tests : all)
        for (const struct test &test : *tests) {
            if (argc > 1 && strstr(test.name, argv[1]) == NULL)
                continue;
            failed = false;
            test.run();
            checks++;
            failures += failed;
            printf("%s %s\n", failed ? "FAIL" : "ok  ", test.name);
        }
    printf("%d%%: Checks: %d, Failures: %d, Errors: 0\n",
           checks > 0 ? 100 * (checks - failures) / checks : 0, checks,
           failures);
    return failures > 0 || checks == 0;
}
