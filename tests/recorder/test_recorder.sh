#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The flight recorder: its files, its socket, its signal.
. "${srcdir:-.}/tests/harness/shell.sh"
command -v python3 >/dev/null || check_skip "python3 is not here"

folder=$scratch/rec
export TALLY_RECORDER_FOLDER="$folder"

# start STEPS [error]: a recording process, its input held open by descriptor 3.
start() {
    rm -f "$scratch/in" "$scratch/out"
    mkfifo "$scratch/in"
    tests/recorder/recording "$folder" "$@" <"$scratch/in" >"$scratch/out" \
        2>"$scratch/err" &
    pid=$!
    exec 3>"$scratch/in"
    eventually grep -q ready "$scratch/out"
}

end() {
    exec 3>&-
    wait $pid
}

# field FILE EXPRESSION: of the JSON in d.
field() {
    python3 -c "import json, sys
d = json.load(open(sys.argv[1]))
print($2)" "$1"
}

start 900
dump=$folder/tally-$pid-3.json
check "nothing is written before it is asked for" [ ! -e "$dump" ]
kill -USR1 $pid
check "SIGUSR1 writes a file" eventually [ -e "$dump" ]
check "so does each recorder of the process" \
    eventually [ -e "$folder/tally-$pid-4.json" ]
check "the process lives" kill -0 $pid
check_equal "the file says why" SIGUSR1 "$(field "$dump" "d['why']")"
check_equal "it holds the last 256 steps" "256 645 900" \
    "$(field "$dump" "len(d['steps']), d['steps'][0]['index'],
        d['steps'][-1]['index']" | tr -d '(),')"
check_equal "in order" True "$(field "$dump" \
    "[s['index'] for s in d['steps']] == list(range(645, 901))")"
check_equal "with who, what and why" "COUNT [0, 2] all entered 1234" \
    "$(field "$dump" "d['steps'][0]['what'], d['steps'][0]['members'],
        d['steps'][0]['why'], d['steps'][0]['waited_us']" |
        sed "s/[()']//g; s/T,/T/; s/\\],/]/; s/d,/d/")"
check_equal "counters count all" 450 \
    "$(field "$dump" "d['counters']['counted']")"
check_equal "an incarnation is whole" 18446744073709551615 \
    "$(field "$dump" "d['incarnation']")"
check_equal "a job's name is escaped" 'a "job"\ True' \
    "$(field "$dump" "d['job'].split(chr(10))[0],
        d['job'].endswith(chr(0xe9))" | sed "s/[(),']//g; s/\\\\\\\\/\\\\/")"
check_equal "only its user may ask" "600 700" \
    "$(stat -c %a "$folder/tally-$pid-3.sock" "$folder" | tr '\n' ' ' |
        sed 's/ $//')"

tools/tally_info --replicas >"$scratch/text"
check "tally_info shows a replica" grep -qx "replica 3: counting, process $pid, \
incarnation 18446744073709551615" "$scratch/text"
check "and where it is" grep -qx "  lineage 1, epoch 2, next 901.0; members \
0,2, acceptors 0,1,2, heard 2" "$scratch/text"
check "and a witness" grep -qx "witness 4: starting, process $pid, \
incarnation 18446744073709551615" "$scratch/text"
check_equal "and the last steps" 16 "$(grep -c ' 0,2' "$scratch/text" |
    awk '{print $1 - 1}')"
tools/tally_info --replicas --json >"$scratch/json"
check_equal "and all as JSON" "[3, 4] 256" \
    "$(field "$scratch/json" "[r['replica'] for r in d['replicas']],
        len(d['replicas'][0]['steps'])" | sed 's/[()]//g; s/\],/]/')"

# One who connects and says nothing keeps nobody from being served.
python3 -c "import socket, time
s = socket.socket(socket.AF_UNIX)
s.connect('$folder/tally-$pid-3.sock')
time.sleep(30)" &
mute=$!
check "a mute viewer is left" tools/tally_info -r >/dev/null
kill $mute

# One who dies while it speaks is left out, and named.
python3 -c "import socket
s = socket.socket(socket.AF_UNIX)
s.bind('$folder/tally-1-9.sock')
s.listen()
print(flush=True)
other = s.accept()[0]
other.recv(1)
other.send(b'{\"job\": \"half\",\\n  \"view\": {\"members\": [1]},\\n')" \
    >"$scratch/half" &
half=$!
eventually [ -s "$scratch/half" ]
tools/tally_info --replicas --json >"$scratch/json" 2>"$scratch/err"
wait $half
rm "$folder/tally-1-9.sock"
check_equal "half an answer is not in the JSON" "[3, 4]" \
    "$(field "$scratch/json" "[r['replica'] for r in d['replicas']]")"
check_equal "and its process is named" \
    "tally_info: $folder/tally-1-9.sock: it does not answer" \
    "$(cat "$scratch/err")"
end
check "the end of the process takes its sockets away" \
    [ -z "$(find "$folder" -name '*.sock')" ]

start 3 "a peer is gone"
dump=$folder/tally-$pid-3.json
check "an error writes a file" eventually [ -e "$dump" ]
check_equal "which says which" "a peer is gone" "$(field "$dump" "d['why']")"
kill -KILL $pid
wait $pid 2>/dev/null
exec 3>&-
not tools/tally_info --replicas >"$scratch/text" 2>"$scratch/err"
check_equal "of a killed process tally_info says that it is gone" \
    "tally_info: $folder/tally-$pid-3.sock: its process is gone" \
    "$(sed -n 1p "$scratch/err")"
check_equal "and that no other runs" "tally_info: no replica group of this \
host runs with TALLY_RECORDER_FOLDER=$folder" "$(sed -n '$p' "$scratch/err")"

check_equal "without a folder it says what is missing" "tally_info: \
TALLY_RECORDER_FOLDER is not set: it names the folder that the job was started \
with" "$(TALLY_RECORDER_FOLDER='' tools/tally_info -r 2>&1)"
check_equal "a folder that is not there is named" "tally_info: \
TALLY_RECORDER_FOLDER=/nowhere: No such file or directory" \
    "$(TALLY_RECORDER_FOLDER=/nowhere tools/tally_info -r 2>&1)"
check_equal "a folder that cannot be made is named" "TALLY_RECORDER_FOLDER=\
/proc/x: it cannot be made: No such file or directory" \
    "$(tests/recorder/recording /proc/x 1 2>&1 </dev/null)"
long=$(printf '%0100d' 0)
check_equal "a path that is too long is named" "TALLY_RECORDER_FOLDER=/$long: \
a path of at most 76 bytes is expected" \
    "$(tests/recorder/recording "/$long" 1 2>&1 </dev/null)"
check_equal "--replicas stands alone" "tally_info: --replicas goes with \
--json only" "$(tools/tally_info -r -c 2>&1 | sed -n 1p)"
check_end
