#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# How much of src/replica the simulator runs: lines and branches, which must be
# 95 % each. Assertions are compiled out: their other branch is never taken.
#     SEEDS=4000 tests/replica/coverage.sh
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

cd "$scratch"
for file in "$root"/src/replica/*.c; do
    gcc -std=gnu11 -O0 --coverage -DNDEBUG -w -D_GNU_SOURCE -I"$root/src" -c "$file"
done
gcc -std=gnu11 -O2 -D_GNU_SOURCE -I"$root/src" -I"$root/tests" --coverage \
    -fno-profile-arcs -fno-test-coverage "$root"/tests/replica/*.c ./*.o \
    -o sim_replica
./sim_replica --seeds "${SEEDS:-4000}" --brief
gcovr --root "$root" --filter "$root/src/replica/" --object-directory . \
    --branches --print-summary . >branches.txt
gcovr --root "$root" --filter "$root/src/replica/" --object-directory . . >lines.txt
cat lines.txt branches.txt
awk '/^(lines|branches):/ { sub("%", "", $2); if ($2 + 0 < 95) low = 1 }
     END { exit low }' branches.txt
