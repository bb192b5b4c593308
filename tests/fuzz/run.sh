#!/bin/sh
# Builds the libFuzzer targets with clang and runs each for SECONDS_EACH (10), in
# build-fuzz/. A finding stops it and leaves the input there.
set -eu
cd "$(dirname "$0")/../.."
seconds=${SECONDS_EACH:-10}
out=build-fuzz
mkdir -p "$out"
flags="-std=gnu11 -D_GNU_SOURCE -g -O1 -fsanitize=fuzzer,address,undefined
    -fno-sanitize-recover=undefined -Iinclude -Isrc"

fuzz() {
    name=$1
    shift
    # shellcheck disable=SC2086
    clang-16 $flags -o "$out/$name" "tests/fuzz/$name.c" "$@"
    mkdir -p "$out/corpus-$name"
    "$out/$name" -max_total_time="$seconds" -max_len=600 -verbosity=0 \
        -print_final_stats=1 -artifact_prefix="$out/$name-" \
        "$out/corpus-$name" 2>&1 | grep -E 'stat::number|ERROR|SUMMARY|Assert' ||
        true
    if ls "$out/$name"-crash* "$out/$name"-leak* "$out/$name"-timeout* \
        >/dev/null 2>&1; then
        echo "$name: findings in $out"
        exit 1
    fi
}

fuzz fuzz_wire src/bootstrap/link/wire.c
fuzz fuzz_config src/core/config.c src/core/config_table.c src/core/error.c \
    src/core/log.c src/bootstrap/identity.c src/bootstrap/slurm.c
