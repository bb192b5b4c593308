#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Simulates all-reduces of up to 100,000 ranks, and how they find each other, and
# writes doc/scale.md and
# doc/scale.svg from what comes out. It takes a few minutes, one processor and
# some GiB of memory at the end; the figures do not depend on the machine.
#     bench/scale.sh [BUILD] [MAX [FOLDER]]
# BUILD: the build folder (build). MAX: up to so many ranks. FOLDER: to write to
# (doc).
set -eu

bench=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${1:-$bench/../build}" && pwd)
max=${2:-100000}
folder=$(cd "${3:-$bench/../doc}" && pwd)

results=$(mktemp)
trap 'rm -f "$results"' EXIT
trap 'exit 1' HUP INT TERM

"$build/bench/scale" --max "$max" >"$results"
python3 "$bench/scale.py" "$results" "$folder/scale.md" "$folder/scale.svg"
echo "wrote $folder/scale.md and $folder/scale.svg"
