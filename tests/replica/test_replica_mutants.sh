#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A few breaks of the protocol, which the simulator must find; all of them are run
# by tests/long.sh.
. "${srcdir:-.}/tests/harness/shell.sh"

command -v "${CC:-gcc}" >/dev/null || check_skip "there is no compiler"
mutants=${srcdir:-.}/tests/replica/mutants.sh
for mutant in "restarted acceptor" "FULL vote after" "compare-and-swap"; do
    check "the simulator finds: $mutant" "$mutants" --seeds 4000 "$mutant"
done
check_end
