#!/bin/sh
# Builds the libFuzzer targets with clang and runs each for SECONDS_EACH (10), as
# many at once as there are processors, in build-fuzz/, from the corpora here. A
# finding is left there and makes it fail.
#     tests/fuzz/run.sh            all
#     tests/fuzz/run.sh --keep     and adds to the corpora what covers more
set -eu
cd "$(dirname "$0")/../.."
seconds=${SECONDS_EACH:-10}
out=build-fuzz
mkdir -p "$out"
flags="-std=gnu11 -D_GNU_SOURCE -g -O1 -fsanitize=fuzzer,address,undefined
    -fno-sanitize-recover=undefined -Iinclude -Isrc -Itests"

build() { # NAME SOURCE...
    name=$1
    shift
    # shellcheck disable=SC2086
    clang-16 $flags -o "$out/fuzz_$name" "tests/fuzz/fuzz_$name.c" "$@"
    mkdir -p "$out/corpus-$name"
    rm -f "$out/$name"-crash-* "$out/$name"-leak-* "$out/$name"-timeout-*
}

# What it found in earlier runs is gone over again too.
fuzz='"$0/fuzz_$2" -max_total_time="$1" -max_len=600 -verbosity=0 \
    -print_final_stats=1 -artifact_prefix="$0/$2-" "$0/corpus-$2" \
    "tests/fuzz/corpus-$2" >"$0/$2.log" 2>&1'

build wire src/bootstrap/link/wire.c
build config src/core/config.c src/core/config_table.c src/core/error.c \
    src/core/log.c src/core/park.c src/bootstrap/identity.c \
    src/bootstrap/slurm.c
build leaders src/collective/leaders.c src/collective/leaders_create.c \
    src/collective/links.c src/collective/schedule.c \
    src/collective/agreement.c src/core/error.c src/core/park.c \
    src/transport/descriptors.c src/bootstrap/link/socket.c

build replica src/replica/*.c

names="wire config leaders replica"
# shellcheck disable=SC2086
printf '%s\n' $names | xargs -P "$(nproc)" -I NAME \
    sh -c "$fuzz" "$out" "$seconds" NAME || true

status=0
for name in $names; do
    echo "-- $name"
    grep -E 'stat::number|ERROR|SUMMARY|Assert' "$out/$name.log" || true
    if ! grep -q 'stat::number_of_executed_units' "$out/$name.log" ||
        ls "$out/$name"-crash-* "$out/$name"-leak-* "$out/$name"-timeout-* \
            >/dev/null 2>&1; then
        tail -n 20 "$out/$name.log"
        echo "$name: a finding, in $out"
        status=1
    elif [ "${1:-}" = --keep ]; then
        "$out/fuzz_$name" -set_cover_merge=1 -max_len=600 "tests/fuzz/corpus-$name" \
            "$out/corpus-$name" >/dev/null 2>&1
    fi
done
exit $status
