#!/bin/sh
# The demo: trains the same model three times, compares the curves and plots
# them. Fails if what Tally promises does not hold. `./dev demo` calls it after
# the build.
set -eu

usage()
{
    cat <<'END'
usage: demo.sh BUILD [-n RANKS] [--steps N] [--out DIR] [TRAINER OPTION | FILE]...
  BUILD        the folder that Tally was built in
  -n RANKS     processes of (a) and (c); 4
  --steps N    optimizer steps, at least 17; 120
  --out DIR    where curves, table and plot go; out
  --replicas P train in P replica groups instead, one of which is killed
What follows goes to the trainer: `BUILD/examples/trainer/trainer --help`.
END
}

here=$(dirname "$0")
case "${1:-}" in
"" | -h | --help)
    usage
    exit 0
    ;;
esac
case " $* " in
*" --replicas "*) exec "$here/replica_demo.sh" "$@" ;;
esac
build=$1
shift

ranks=4
steps=120
out=out
while [ $# -gt 0 ]; do
    case "$1" in
    -n | --steps | --out)
        if [ $# -lt 2 ]; then
            usage >&2
            exit 2
        fi
        case "$1" in
        -n) ranks=$2 ;;
        --steps) steps=$2 ;;
        --out) out=$2 ;;
        esac
        shift 2
        ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        break
        ;;
    esac
done

# The variables let tests put other programs in these places.
tally_run=${DEMO_RUN:-$build/tools/tally_run}
library=${DEMO_LIBRARY:-$build/.libs/libtally.so}
case "$library" in
*/*) ;;
*) library=./$library ;;
esac
trainer=$build/examples/trainer/trainer
compare=$build/examples/trainer/compare
for program in "$tally_run" "$library" "$trainer" "$compare"; do
    if [ ! -x "$program" ]; then
        echo "demo: there is no $program: build first (./dev build)" >&2
        exit 1
    fi
done
mkdir -p "$out"

running=
stop()
{
    [ -z "$running" ] || kill "$running" 2>/dev/null || true
    exit 130
}
trap stop INT TERM HUP

# progress NAME CURVE: what the run has come to, from the curve that it writes.
progress()
{
    awk -v name="$1" -v steps="$steps" '
        !/^#/ && NF == 8 { step = $1; total = $2; mean = $5 }
        END {
            if (step > 0)
                printf "%-32s step %d of %d, N_total %d, loss %.4f",
                       name, step, steps, total, mean
            else
                printf "%-32s starting", name
        }' "$2" 2>/dev/null || printf '%-32s starting' "$1"
}

# On a terminal one line that changes; elsewhere a line every few seconds.
show_progress()
{
    if [ -t 1 ]; then
        printf '\r%s\033[K' "$(progress "$@")"
    else
        seen=$((seen + 1))
        [ $((seen % 25)) -ne 0 ] || printf '%s\n' "$(progress "$@")"
    fi
}

# train NAME CURVE PROCESSES OPTION...
train()
{
    name=$1
    curve=$2
    processes=$3
    shift 3
    rm -f "$curve"
    seen=0
    "$tally_run" -n "$processes" "$trainer" --tally "$library" \
        --steps "$steps" --curve "$curve" --shared "tally-demo.$$" "$@" &
    running=$!
    while kill -0 "$running" 2>/dev/null; do
        show_progress "$name" "$curve"
        sleep 0.2
    done
    status=0
    wait "$running" || status=$?
    running=
    [ ! -t 1 ] || printf '\r\033[K'
    printf '%s\n' "$(progress "$name" "$curve")"
    if [ "$status" -ne 0 ]; then
        echo "demo: $name failed (exit status $status)" >&2
        exit 1
    fi
}

plot()
{
    if ! command -v gnuplot >/dev/null; then
        echo "no plot: gnuplot is not installed"
        return
    fi
    for type in svg pngcairo; do
        file=$out/demo.${type%cairo}
        if gnuplot -e "balanced = '$out/balanced.tsv'" \
            -e "reference = '$out/reference.tsv'" \
            -e "naive = '$out/naive.tsv'" \
            -e "ranks = $ranks" -e "terminal_type = '$type'" \
            -e "output = '$file'" \
            "$here/curve/demo.gnuplot" 2>"$out/gnuplot.log"; then
            echo "plot: $file"
        else
            rm -f "$file"
            echo "no plot $file: see $out/gnuplot.log"
        fi
    done
}

train "(a) balanced, $ranks ranks" "$out/balanced.tsv" "$ranks" \
    --mode balanced "$@"
train "(b) one process, all data" "$out/reference.tsv" 1 \
    --mode reference --ranks "$ranks" "$@"
train "(c) mean of rank means, $ranks ranks" "$out/naive.tsv" "$ranks" \
    --mode naive "$@"

echo
status=0
"$compare" "$ranks" "$out/balanced.tsv" "$out/reference.tsv" \
    "$out/naive.tsv" >"$out/demo.txt" || status=$?
cat "$out/demo.txt"
echo
plot
exit "$status"
