#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Tests of tools/tally_run, as a user sees it.
. "${srcdir:-$(dirname "$0")/../..}/tests/harness/shell.sh"

tally_run=$PWD/tools/tally_run
out=$scratch/out
err=$scratch/err

# Against hanging; the last --timeout counts.
guard="--timeout 120"

# Runs tally_run to its end: output in $out and $err, exit status in $status.
run() {
    # shellcheck disable=SC2086
    "$tally_run" $guard "$@" >"$out" 2>"$err"
    status=$?
}

# Starts tally_run with arguments; its process is $launcher. Shells start
# background processes with SIGINT ignored.
start() {
    : >"$out"
    # shellcheck disable=SC2086
    env --default-signal=INT,HUP "$tally_run" $guard "$@" >"$out" 2>"$err" &
    launcher=$!
}

finish() {
    wait "$launcher"
    status=$?
}

# Whether $out or another file has COUNT lines that match.
lines() { # COUNT PATTERN [FILE]
    [ "$(grep -c -e "$2" "${3:-$out}")" -eq "$1" ]
}

# Whether the process is there and not a zombie.
alive() {
    state=$(sed 's/.*) \(.\).*/\1/' "/proc/$1/stat" 2>/dev/null) || return 1
    [ -n "$state" ] && [ "$state" != Z ]
}

all_dead() {
    for pid in "$@"; do
        ! alive "$pid" || return 1
    done
}

# ------------------------------------------------------------------ variables

run -n 5 --nodes 2 sh -c \
    'echo $TALLY_RANK/$TALLY_WORLD_SIZE/$TALLY_LOCAL_SIZE $TALLY_NODE'
check_equal "ranks learn who they are, nodes are contiguous blocks" \
    "[0] 0/5/5 node0 [1] 1/5/5 node0 [2] 2/5/5 node0 [3] 3/5/5 node1 [4] 4/5/5 node1" \
    "$(sort "$out" | tr '\n' ' ' | sed 's/ $//')"
TALLY_NODE=mine run -n 1 sh -c 'echo $TALLY_NODE'
check_equal "without --nodes a node's name is left as it is" mine "$(cat "$out")"
run -n 3 sh -c 'echo $TALLY_ROOT'
check "all ranks have the same root on the loopback" \
    [ "$(sed 's/.* //' "$out" | grep '^127\.0\.0\.1:[1-9]' | uniq -c |
        tr -s ' ' | cut -d ' ' -f 2)" = 3 ]
if command -v perl >/dev/null; then
    cat >"$scratch/listen.pl" <<'LISTEN'
use Socket;
my $port = (split /:/, $ENV{TALLY_ROOT})[1];
my $reuse = shift;
socket(my $s, AF_INET, SOCK_STREAM, 0) or die;
setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1) if $reuse;
bind($s, sockaddr_in($port, INADDR_ANY)) or exit 3;
listen($s, 8) or exit 4;
socket(my $c, AF_INET, SOCK_STREAM, 0) or die;
connect($c, sockaddr_in($port, INADDR_LOOPBACK)) or exit 5;
LISTEN
    run -n 1 perl "$scratch/listen.pl" 1
    check_equal "rank 0 can listen on the root's port" 0 $status
    run -n 1 perl "$scratch/listen.pl" 0
    check_equal "nobody else gets the root's port" 3 $status
fi

# --------------------------------------------------------------------- output

run -n 2 sh -c 'echo to out; echo to err >&2'
check_equal "standard output stays standard output" \
    "[0] to out [1] to out " "$(sort "$out" | tr '\n' ' ')"
check_equal "standard error stays standard error" \
    "[0] to err [1] to err " "$(sort "$err" | tr '\n' ' ')"
run -n 4 sh -c 'i=0; while [ $i -lt 300 ]; do
    printf "a$TALLY_RANK "; printf "b$TALLY_RANK\n"; i=$((i + 1)); done'
check "lines written in pieces come out whole" \
    [ "$(grep -c '^\[\([0-3]\)\] a\1 b\1$' "$out")" = 1200 ]
check "nothing else comes out" lines 1200 ''
run -n 2 printf 'no newline'
check_equal "an unfinished last line comes out" \
    "[0] no newline [1] no newline " "$(sort "$out" | tr '\n' ' ')"
run -n 2 sh -c 'head -c 3000000 /dev/zero | tr "\0" x; echo'
check_equal "no byte of a line of 3 MB is lost" 6000000 \
    "$(tr -cd x <"$out" | wc -c)"
run -n 1 printf 'as it is'
check_equal "a single rank has no prefix" "as it is" "$(cat "$out")"
run -n 2 --no-prefix printf 'x\n'
check "--no-prefix leaves lines as they are" lines 2 '^x$'
echo ours >"$scratch/in"
run -n 2 cat <"$scratch/in"
check_equal "ranks read nothing" "0 0" "$status $(wc -c <"$out")"
"$tally_run" -n 2 yes 2>"$err" | head -n 1 >"$out"
check "ranks end when nobody reads their output" lines 1 '^\[[01]\] y$'

# ------------------------------------------------------------------- failures

run -n 3 true
check_equal "all well is status 0, and silent" "0 0" \
    "$status $(cat "$out" "$err" | wc -c)"
run -n 3 --grace 0.1 sh -c '[ $TALLY_RANK != 1 ] || exit 3; exec sleep 300'
check_equal "the status is that of the rank that failed" 3 $status
check "the rank that failed is named" \
    lines 1 '^tally_run: rank 1 exited with status 3$' "$err"
check "those that had to be ended are named" lines 1 \
    '^tally_run: still running after 0.1 s, ending: ranks 0, 2$' "$err"
check "nothing else is said" lines 2 '' "$err"
run -n 3 --grace 0.1 sh -c '[ $TALLY_RANK != 2 ] || kill -9 $$; exec sleep 300'
check_equal "a signal is status 128 and its number" 137 $status
check "the signal is named" lines 1 \
    '^tally_run: rank 2 was killed by signal 9 (Killed)$' "$err"
run -n 3 --grace 60 sh -c '[ $TALLY_RANK != 0 ] || exit 4; sleep 0.3; echo told'
check "the others may end by themselves" lines 2 told
check_equal "then their end is no failure" "4 1" "$status $(wc -l <"$err")"
export scratch
run -n 2 --grace 0 sh -c 'if [ $TALLY_RANK = 0 ]; then
        until [ -e "$scratch/trapped" ]; do sleep 0.05; done
        exit 5
    fi
    trap "" TERM; : >"$scratch/trapped"; while :; do sleep 0.1; done'
check "who ignores SIGTERM is killed" lines 1 \
    '^tally_run: SIGTERM did not end, killing: rank 1$' "$err"
check_equal "and the status stays that of the first" 5 $status
run -n 3 --grace 0 --keep-going sh -c '[ $TALLY_RANK != 0 ] || exit 6
    sleep 0.3; echo went on'
check "--keep-going ends nobody" lines 2 'went on'
check_equal "and keeps the status" 6 $status
run -n 12 --timeout 0.2 sleep 300
check_equal "a timeout is status 124" 124 $status
check "a timeout says who ran" lines 1 \
    '^tally_run: timeout after 0.2 s, ending: ranks 0, 1, 2, 3, 4, 5, 6, 7 and 4 more$' \
    "$err"
run -n 2 --timeout 0.2 sh -c 'kill -STOP $$'
check_equal "a stopped rank is ended too" 124 $status
run -n 3 /nowhere/command
check_equal "a command that is not there is told once" \
    "127 tally_run: cannot run '/nowhere/command': No such file or directory" \
    "$status $(cat "$err")"
run -n 3 /etc/passwd
check_equal "a command that cannot be run is status 126" 126 $status
for wrong in '-n 0 true' '-n 2x true' 'true' '-n 2' '-n 2 --nodes 3 true' \
    '-n 1 --timeout -1 true' '-n 1 --grace soon true' '-n 1 --no-such true'; do
    # shellcheck disable=SC2086
    run $wrong
    check_equal "refused: tally_run $wrong" "125 yes" \
        "$status $(grep -q tally_run "$err" && echo yes)"
done

# -------------------------------------------------------------------- signals

for name in INT TERM HUP; do
    start -n 3 sh -c "trap 'echo got it; exit 7' $name; echo ready
        while :; do sleep 0.1; done"
    eventually lines 3 ready
    kill -$name $launcher
    finish
    check "SIG$name is passed on to all ranks" lines 3 'got it'
    check_equal "after SIG$name the status is the ranks'" 7 $status
done
start -n 3 sh -c "echo ready; exec sleep 300"
eventually lines 3 ready
kill -TERM $launcher
finish
check_equal "ranks that end by a signal passed on say nothing" "143 0" \
    "$status $(wc -c <"$err")"

# -------------------------------------------------------------------- orphans

start -n 3 sh -c 'echo pid $$; exec sleep 300'
eventually lines 3 pid
pids=$(sed 's/.* //' "$out")
kill -9 $launcher
finish
# shellcheck disable=SC2086
check "no rank outlives tally_run" eventually all_dead $pids
run -n 2 sh -c 'sleep 300 & echo pid $!'
pids=$(sed 's/.* //' "$out")
check "ranks may leave processes behind" lines 2 pid
# shellcheck disable=SC2086
check "which do not outlive the rank" eventually all_dead $pids

# ----------------------------------------------------------------- many ranks

(
    ulimit -Sn 64
    run -n 256 sh -c 'echo $TALLY_RANK $(ulimit -Sn)'
    echo $status >"$scratch/status"
)
check_equal "256 ranks run" 0 "$(cat "$scratch/status")"
check_equal "and each is heard once, its limits as they were" \
    "$(i=0; while [ $i -lt 256 ]; do echo "[$i] $i 64"; i=$((i + 1)); done)" \
    "$(sort -t '[' -k 2n "$out")"
run -n 256 /bin/true
check_equal "256 ranks of /bin/true" 0 $status

check_end
