#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Tests of tools/tally_doctor: each fault that can be made here is made, and must
# be told in its words.
srcdir=${srcdir:-$(dirname "$0")/../..}
. "$srcdir/tests/harness/shell.sh"

for name in $(env | sed -n 's/^\([A-Z0-9_]*\)=.*/\1/p' |
    grep -E '^(TALLY|UCX|FI|SLURM|OMPI|PMIX)_|^(RANK|WORLD_SIZE|MASTER_ADDR)$')
do
    unset "$name"
done
out=$scratch/out
err=$scratch/err
backends=$PWD/tests/harness/backends/.libs

# Runs tally_doctor: output in $out and $err, exit status in $status.
alone() { # OPTION...
    timeout 100 tools/tally_doctor "$@" >"$out" 2>"$err"
    status=$?
}

# The same on ranks. Where $of_rank is set, the shell runs it at each of them
# first. $keep: whether the others go on when one fails.
of_rank=
keep=--keep-going
run() { # RANKS OPTION...
    ranks=$1
    shift
    timeout 200 tools/tally_run --no-prefix $keep --grace 1 -n "$ranks" \
        sh -c "$of_rank"' exec tools/tally_doctor "$@"' sh "$@" \
        >"$out" 2>"$err"
    status=$?
}

# Whether a line of $out is this, whatever the columns.
says() { # SEVERITY ID TEXT
    sed 's/  */ /g' "$out" | grep -qxF -e "$1 $2 $3" && return
    grep -e "^FAIL" -e "^WARN" "$out"
    return 1
}

begins() { # SEVERITY ID TEXT
    sed 's/  */ /g' "$out" | grep -F -e "$1 $2 $3" | grep -q "^$1 "
}

found_nothing() {
    ! grep -e "^WARN" -e "^FAIL" "$out"
}

# Whether a Python expression on the JSON object `it` in $out holds.
json() {
    python3 - "$out" "$1" <<'PYTHON'
import json, sys
it = json.load(open(sys.argv[1], encoding="utf-8"))
ids = [one["id"] for one in it["findings"] if one["severity"] != "ok"]
sys.exit(not eval("(" + sys.argv[2] + ")"))
PYTHON
}

# ------------------------------------------------------------------ all is well

alone
check_equal "a process by itself ends well" 0 $status
check "it is said to be one" grep -q "^tally_doctor .*: one process on " "$out"
check "what is well has a line" grep -q "^ok *limit.shm" "$out"
check "it is told why it is rank 0" \
    says ok meet.identity \
    "a single process: no launcher's variables are there"
check "devices are listed" grep -q "interfaces: .*lo 127.0.0.1" "$out"
check "nothing on stderr" [ ! -s "$err" ]

run 3
check_equal "ranks that meet end well" 0 $status
check_equal "one of them prints" 1 "$(grep -c "^tally_doctor " "$out")"
check "it says who started them" \
    grep -q ": 3 of 3 ranks, started by TALLY_RANK$" "$out"
check "all have come" says ok meet.ranks "all 3 ranks came"
check "they share memory" says ok node.shared \
    "ranks of one host share memory: 3 ranks, nodes: 1"
check "no transport is needed" says ok transport.common \
    "none is needed: one node holds all ranks"
check "all pairs are tried" says ok way.reach \
    "all that were tried reach each other: 3 pairs"
check "the clocks of one machine agree" begins ok clock.skew "at most "
check_equal "the matrix has a row for each rank, with digits" 3 \
    "$(grep -c "^ *[012]\(   [.0-9]\)\{3\}$" "$out")"
check_equal "and its diagonal is not tried" "..." \
    "$(sed -n 's/^ *\([012]\)\(   [.0-9]\)\{3\}$/&/p' "$out" |
        awk '{ printf "%s", $(NR + 1) }')"

# Above 16 ranks the pairs are those of nodes.
of_rank='export TALLY_NODE=node$((TALLY_RANK % 2));'
run 17 --timeout 60
check_equal "seventeen ranks end well" 0 $status
if tools/tally_info -t | grep -q '^transport [a-z]*: loaded'; then
    check_equal "and two nodes have a matrix of two" 2 \
        "$(grep -c "^ *[01]\(   [.0-9]\)\{2\}$" "$out")"
    check "by a transport that all ranks have" \
        grep -q "^ok *transport.common .*, which all ranks have$" "$out"
fi
check "ranks of two names are of two nodes" says WARN node.shared \
    "ranks 1, 3, 5, 7, 9, 11, 13, 15: on the host of rank 0, but does not share memory with it: TALLY_NODE differs"
of_rank=

# ------------------------------------------------------------------------- JSON

if python3 -c 'import json' 2>/dev/null; then
    alone --json
    check_equal "JSON of one process ends well" 0 $status
    check "it is one object with these members" json \
        'list(it) == ["version", "status", "rank", "world_size", "joined",
                      "transport", "findings", "ranks", "matrix_ranks",
                      "matrix"]'
    run 3 --json
    check "JSON of three ranks is valid, and says that all is well" json \
        'it["status"] == "ok" and it["joined"] and it["world_size"] == 3 and
         it["transport"] == "shm"'
    check "findings have these members" json \
        'all(list(one) == ["id", "severity", "ranks", "text", "why", "fix"]
             for one in it["findings"])'
    check "ranks have these members" json \
        'all(list(one) == ["rank", "host", "kernel", "tally", "launcher",
                           "node", "processors", "gpus", "interfaces",
                           "transports", "clock_ahead_min_s",
                           "clock_ahead_max_s"] for one in it["ranks"])'
    check "the matrix is square, with times beside its diagonal" json \
        'it["matrix_ranks"] == [0, 1, 2] and
         all(len(row) == 3 for row in it["matrix"]) and
         all((it["matrix"][i][k] is None) == (i == k) and
             (i == k or it["matrix"][i][k] > 0)
             for i in range(3) for k in range(3))'
    TALLY_NOPE=$(printf 'q"\\\t\377') TALLY_RADIX=one run 2 --json
    check_equal "JSON of a failure exits like text" 2 $status
    check "and has it" json \
        'it["status"] == "fail" and ids == ["env.refused", "env.unknown"] and
         it["findings"][0]["ranks"] == [0, 1] and
         all(one["why"] and one["fix"] for one in it["findings"]
             if one["severity"] != "ok")'
else
    echo "python3 has no json module: JSON is not checked"
fi

# -------------------------------------------------------------------- variables

TALLY_TIMEOT=3 run 2
check_equal "a misspelt variable is a warning" 0 $status
check "it is told with the nearest name" says WARN env.unknown \
    "ranks 0, 1: TALLY_TIMEOT is not a variable of Tally: did you mean TALLY_TIMEOUT?"
check "and what to do" grep -q "^ *fix: Rename or unset it" "$out"
TALLY_TIMEOT=3 run 2 --strict
check_equal "--strict makes it a failure" 1 $status
TALLY_TIMEOT=3 TALLY_STRICT_ENV=1 alone
check_equal "as it is one where the environment is strict" 2 $status
check "and is told" says FAIL env.refused \
    "TALLY_TIMEOT is not a variable of Tally: did you mean TALLY_TIMEOUT?"

TALLY_RADIX=99 TALLY_LOG=loud alone
check_equal "a refused value is a failure" 2 $status
check "each is told" says FAIL env.refused \
    "TALLY_RADIX=99: expected 0 or an integer from 2 to 64"
check "not only the first" says FAIL env.refused \
    "TALLY_LOG=loud: expected error|warn|info|debug"
TALLY_TRANSPORT=a,b,c,d,e,f,g,h,ucx alone
check "a list of too many transports is told" begins FAIL env.refused \
    "TALLY_TRANSPORT=a,b,c,d,e,f,g,h,ucx: at most 8 transports"
TALLY_SECRET_FILE=/nowhere alone
check "a secret that cannot be read is told" says FAIL env.refused \
    "TALLY_SECRET_FILE=/nowhere: No such file or directory"

of_rank='[ $TALLY_RANK = 0 ] || export TALLY_RADIX=4 TALLY_TIMEOUT=7;'
run 3
check_equal "settings that differ are a failure" 2 $status
check "each is told with its values" says FAIL env.settings \
    'ranks 1, 2: TALLY_RADIX is "4", but "0" at rank 0'
check "also the second" says FAIL env.settings \
    'ranks 1, 2: TALLY_TIMEOUT is "7", but "60" at rank 0'
of_rank=

OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=16 run 2
check "another launcher's variables are told" says WARN env.launchers \
    "ranks 0, 1: TALLY_WORLD_SIZE=2 (TALLY_RANK) is used, but OMPI_COMM_WORLD_SIZE=16 (Open MPI) says that there are more ranks"
SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2 run 2
check "also if they have as many ranks" says WARN env.launchers \
    "rank 1: TALLY_RANK (TALLY_RANK) is used, but SLURM_PROCID (Slurm) numbers the ranks otherwise"
SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1 run 2
check "one launcher within another is well" found_nothing

UCX_TLS=tcp,self FI_PROVIDER=tcp UCX_LOG_LEVEL=error TALLY_OFI_PROVIDER=tcp alone
check "a variable of UCX is told" says WARN env.libraries \
    "UCX_TLS=tcp,self (TALLY_UCX_TLS is for Tally alone)"
check_equal "but none that is overridden or harmless" 1 \
    "$(grep -c "^WARN" "$out")"

# ------------------------------------------------------------------ the meeting

TALLY_RANK=1 TALLY_WORLD_SIZE=2 alone
check "a rank that does not know the root is told" says FAIL meet.identity \
    "TALLY_RANK says that there are 2 ranks, and nothing says where rank 0 is: set TALLY_ROOT=host:port"
TALLY_RANK=1 TALLY_WORLD_SIZE=2 TALLY_ROOT=127.0.0.1:1 alone --timeout 1
check_equal "a root that does not listen is a failure" 2 $status
check "it is told" says FAIL meet.root \
    'rank 1: nobody listens at 127.0.0.1:1 (the root, "127.0.0.1"): rank 0 is not there, or has ended'
check "and that it was waited for" says FAIL meet.ranks \
    "rank 0 was not found at 127.0.0.1:1 within 1 s: Connection refused"
check "what the rank sees by itself is there all the same" \
    grep -q "^ok *limit.shm" "$out"
TALLY_RANK=1 TALLY_WORLD_SIZE=2 TALLY_ROOT=no..where:1 alone --timeout 60
check "a root without an address is told" begins FAIL meet.root \
    'rank 1: the root'\''s host "no..where" is not known: '

of_rank='[ $TALLY_RANK != 2 ] || exit 0;'
run 3 --timeout 8
check_equal "a rank that does not come is a failure" 2 $status
check_equal "the others name it, each for itself" 2 \
    "$(grep -c "^FAIL *meet.ranks *rank 2 did not come within 8 s$" "$out")"
of_rank=

of_rank='[ $TALLY_RANK = 0 ] || export TALLY_JOB=other;'
run 2 --timeout 8
check "a rank of another job is told" grep -q \
    'FAIL *meet.ranks .*is of job "other", here is job "' "$out"
of_rank=

# Launchers of other kinds, as far as variables go.
port=$((20000 + $$ % 10000))
for rank in 0 1; do
    RANK=$rank WORLD_SIZE=2 LOCAL_WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 \
        MASTER_PORT=$port TORCHELASTIC_RUN_ID=doctor$$ \
        timeout 100 tools/tally_doctor >"$out.$rank" 2>"$err" &
done
wait
mv "$out.0" "$out"
check "under torchrun the ranks meet" says ok meet.ranks "all 2 ranks came"
check "and only rank 0 prints" [ ! -s "$out.1" ]
if command -v mpirun >/dev/null; then
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 timeout 100 \
        mpirun --oversubscribe -n 2 tools/tally_doctor >"$out" 2>"$err"
    check_equal "under mpirun all is well" 0 $?
    check "and the ranks meet" says ok meet.ranks "all 2 ranks came"
    check "and Open MPI is not held against itself" \
        not grep -q "env.launchers" "$out"
fi

# ----------------------------------------------------------------------- limits

(ulimit -n 100 && timeout 100 tools/tally_doctor >"$out" 2>"$err")
check "too few open files are told" begins WARN limit.files \
    "at most 100 open files are allowed"

# A command in a mount namespace with another /dev/shm.
with_shm() { # MOUNT_OPTIONS COMMAND...
    options=$1
    shift
    unshare -m sh -c 'mount --make-rprivate / 2>/dev/null
        mount -t tmpfs -o "$1" none /dev/shm || exit 125
        shift; exec "$@"' sh "$options" "$@"
}
if with_shm size=64k true 2>/dev/null; then
    with_shm size=16k tools/tally_doctor >"$out" 2>"$err"
    check_equal "too small a /dev/shm is a failure" 2 $?
    check "its size is told" says FAIL limit.shm \
        "/dev/shm has 16 KiB free of 16 KiB: a step of 64 channels among the ranks of this host takes 17 KiB"
    check "with the fix for containers" grep -q -e "docker run --shm-size" "$out"
    with_shm ro tools/tally_doctor >"$out" 2>"$err"
    check "a /dev/shm that is read-only is told" says FAIL limit.shm \
        "/dev/shm is mounted read-only"
    with_shm noexec tools/tally_doctor >"$out" 2>"$err"
    check "noexec does no harm" grep -q "^ok *limit.shm .*noexec" "$out"
    of_rank='[ $TALLY_RANK != 1 ] || exec unshare -m sh -c "
        mount --make-rprivate / 2>/dev/null
        mount -t tmpfs none /dev/shm && exec tools/tally_doctor --timeout 60";'
    run 3 --timeout 60
    check "a rank with a /dev/shm of its own is told" says WARN node.shared \
        "rank 1: on the host of rank 0, but does not share memory with it: each has a /dev/shm of its own, as in containers"
    check "with the fix" grep -q -e "docker run --ipc=host" "$out"
    of_rank=
else
    echo "no mount namespace here: other /dev/shm are not tested"
fi

# A network namespace has a loopback that is down, and nothing else.
if unshare -n true 2>/dev/null; then
    TALLY_RANK=0 TALLY_WORLD_SIZE=2 TALLY_ROOT=192.0.2.1:29400 \
        unshare -n tools/tally_doctor --timeout 1 >"$out" 2>"$err"
    check "a host without a network is told" says FAIL device.network \
        "rank 0: no network interface but the loopback is up and has an address"
else
    echo "no network namespace here: a host without a network is not tested"
fi

# ------------------------------------------------------------------- transports

TALLY_TRANSPORT=uxc alone
check_equal "a transport that is not there is a failure" 2 $status
check "it is told with the nearest name" \
    grep -q "^FAIL *transport.named .*did you mean ucx?$" "$out"
TALLY_TRANSPORT=shm TALLY_NODE_SHM=0 run 2
check "shared memory alone does not join two nodes" says FAIL transport.common \
    "TALLY_TRANSPORT=shm, and the ranks are on 2 nodes"

if tools/tally_info -t | grep -q '^transport ucx: loaded'; then
    # Loopback only, whatever else the machine has.
    export TALLY_NODE_SHM=0 TALLY_TRANSPORT=ucx TALLY_UCX_NET_DEVICES=lo
    mkdir "$scratch/plugins"
    ln -s "$backends/libtally-newer.so" "$scratch/plugins/libtally-ucx.so"
    of_rank='[ $TALLY_RANK != 1 ] ||
        export TALLY_PLUGIN_PATH='$scratch'/plugins;'
    run 3 --timeout 60
    check_equal "a backend that one rank lacks is a failure" 2 $status
    check "the rank is told with the reason" says WARN transport.backends \
        "rank 1: cannot use ucx, which 2 of 3 ranks can: $scratch/plugins/libtally-ucx.so speaks transport ABI 2, this Tally speaks 1"
    check "the others reach each other" \
        grep -q "^ *0   \.   \.   [0-9]$" "$out"
    # Two that have no way in common.
    of_rank='export TALLY_UCX_TLS=tcp
        [ $TALLY_RANK != 2 ] || export TALLY_UCX_TLS=posix,self;'
    run 3 --timeout 60
    check_equal "ranks that do not reach each other are a failure" 2 $status
    check "who reaches nobody is told, with UCX's reason" begins FAIL way.reach \
        "rank 2: reaches nobody and is reached by nobody over ucx: UCX has no way to rank 0"
    check "the matrix shows it" grep -q "^ *2   x   x   \.$" "$out"
    check "and who reaches whom" grep -q "^ *0   \.   [0-9]   x$" "$out"
    check "devices that UCX sees are listed" grep -q "tcp lo" "$out"
    unset TALLY_NODE_SHM TALLY_TRANSPORT TALLY_UCX_NET_DEVICES
    of_rank=
else
    echo "UCX is not there: what is over it is not tested"
fi

# ------------------------------------------------------------- nothing hangs it

if [ -e "$backends/libtally-stuck.so" ]; then
    TALLY_TRANSPORT=$backends/libtally-stuck.so alone --timeout 1
    check_equal "a library that hangs is a failure" 2 $status
    check_equal "which is told" \
        "tally_doctor: FAIL: loading and opening transport $backends/libtally-stuck.so does not come to an end: a library or a driver hangs" \
        "$(cat "$err")"
    keep=
    TALLY_NODE_SHM=0 TALLY_TRANSPORT=$backends/libtally-stopping.so \
        run 3 --timeout 10
    check_equal "a rank that is stopped on the way is a failure" 2 $status
    check "it is named" says FAIL meet.absent \
        "rank 2: came, and then did not answer any more"
    check "and the others go on without it" begins FAIL way.reach \
        "ranks 0 ("
fi

# ------------------------------------------------------------- the command line

wrong() { # WHAT_IS_TOLD OPTION...
    told=$1
    shift
    alone "$@"
    check_equal "$*: a usage error" 3 $status
    check "$*: it is told why" grep -q -e "tally_doctor: $told" "$err"
    check "$*: nothing on stdout" [ ! -s "$out" ]
}
wrong "--timeout 0: expected an integer from 1 to 3600" --timeout 0
wrong "--timeout 5x: expected an integer" --timeout 5x
wrong "unexpected argument 'more'" more
alone --nonsense
check_equal "an unknown option is a usage error" 3 $status
alone --help
check_equal "--help ends well" 0 $status
check "and shows the usage on stdout" grep -q "^usage: " "$out"
if [ -e /dev/full ]; then
    timeout 60 tools/tally_doctor >/dev/full 2>"$err"
    check_equal "a full disk is an error" 3 $?
    check "which is told" grep -q "^tally_doctor: stdout: " "$err"
fi

check_end
