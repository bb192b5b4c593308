#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Tests of tools/tally_info and of the manual pages, as a user sees them.
srcdir=${srcdir:-$(dirname "$0")/../..}
. "$srcdir/tests/harness/shell.sh"

# What the caller's shell has set is not what is tested.
for name in $(env | sed -n 's/^\(TALLY_[A-Z0-9_]*\)=.*/\1/p'); do
    unset "$name"
done
out=$scratch/out
err=$scratch/err

# Runs tally_info: output in $out and $err, exit status in $status.
run() {
    timeout 60 tools/tally_info "$@" >"$out" 2>"$err"
    status=$?
}

# Whether a Python expression on the JSON object `it` in $out holds.
json() {
    python3 - "$out" "$1" <<'PYTHON'
import json, sys
it = json.load(open(sys.argv[1], encoding="utf-8"))
rows = {row["name"]: row for row in it.get("config", [])}
sys.exit(not eval("(" + sys.argv[2] + ")"))
PYTHON
}

# Names of the variables in the table in the source.
table() {
    sed -n 's/^ *\.name = "\(TALLY_[A-Z0-9_]*\)",$/\1/p' \
        "$srcdir/src/core/config_table.c"
}

# ----------------------------------------------------------------------- text

run
check_equal "it ends well" 0 $status
check "it writes nothing to stderr" [ ! -s "$err" ]
check "the table of variables is not empty" [ "$(table | wc -l)" -gt 15 ]
check_equal "every variable is shown, in the table's order" \
    "$(table)" "$(sed -n 's/^\(TALLY_[A-Z0-9_]*\)=.*  (default)$/\1/p' "$out")"
check "the version is shown" grep -q "^tally [0-9]*\.[0-9]*\.[0-9]*$" "$out"
check "the flags it was built with are shown" grep -q "flags .*-std=gnu11" "$out"
check_equal "transports are shown, in their order" "transport ucx:
transport ofi:
transport nccl:" "$(grep -o "^transport [a-z]*:" "$out")"
check_equal "lines fit into 80 columns, but for flags and paths" "" \
    "$(grep -v "^    flags " "$out" | grep "^[^/]\{80,\}$")"

run -v
check_equal "-v shows the version only" 0 \
    "$(grep -c "^TALLY_\|^transport" "$out")"
run -c
check_equal "-c shows variables only" 0 "$(grep -c "^tally \|^transport" "$out")"
run -t
check_equal "-t shows transports only" 0 "$(grep -c "^tally \|^TALLY_" "$out")"

TALLY_TIMEOUT=7.5 TALLY_JOB='a job' run -c
check "a value of the environment is shown, with its source" \
    grep -q "^TALLY_TIMEOUT=7.5  (environment)$" "$out"
check "a value with spaces stands in quotes" \
    grep -q '^TALLY_JOB="a job"  (environment)$' "$out"
TALLY_JOB=$(printf 'x\033[1m') run -c
check "nothing that a terminal obeys is printed" \
    not grep -q "$(printf '\033')" "$out"
TALLY_SECRET=hush run
check "a secret is said to be set" grep -q "^TALLY_SECRET=.*(environment)" "$out"
check "a secret is not shown" not grep -q hush "$out"

TALLY_TIMEOT=5 run -c
check "a misspelt variable is listed" grep -q "^TALLY_TIMEOT$" "$out"
check_equal "a misspelt variable is no error of tally_info" 0 $status

TALLY_TIMEOUT=soon run
check_equal "a wrong value makes it fail" 1 $status
check "a wrong value is shown" \
    grep -q "^TALLY_TIMEOUT=soon  (environment)$" "$out"
check "and told with what was expected" \
    grep -q "^tally_info: .*TALLY_TIMEOUT=soon: expected a number" "$err"

# -------------------------------------------------------------- the command line

run --nonsense
check_equal "an unknown option is a usage error" 2 $status
check "the usage is on stderr" grep -q "^usage: tally_info" "$err"
check "and nothing on stdout" [ ! -s "$out" ]
run everything
check_equal "so is an argument" 2 $status
check "which is named" grep -q "unexpected argument 'everything'" "$err"
run --help
check_equal "--help ends well" 0 $status
check "and shows the usage on stdout" grep -q "^usage: tally_info" "$out"
if [ -e /dev/full ]; then
    timeout 60 tools/tally_info >/dev/full 2>"$err"
    check_equal "a full disk is an error" 1 $?
    check "which is told" grep -q "^tally_info: stdout: " "$err"
fi

# ----------------------------------------------------------------------- JSON

if python3 -c 'import json' 2>/dev/null; then
    run --json
    check_equal "--json ends well" 0 $status
    check "it is one object with all sections" json \
        'list(it) == ["version", "abi", "build", "config", "unknown", "transports"]'
    check_equal "every variable is in it" "$(table)" \
        "$(sed -n 's/.*{"name": "\(TALLY_[A-Z0-9_]*\)".*/\1/p' "$out")"
    check "every variable has type, default, value, source and doc" json \
        'all(row["type"] and row["doc"] and row["source"] == "default" and
             row["value"] == row["default"] for row in rows.values())'
    check "settings that all ranks share are marked" json \
        'rows["TALLY_TIMEOUT"]["job_wide"] and
         not rows["TALLY_LOG"]["job_wide"]'
    check "each transport is loaded, or says why not" json \
        'it["transports"] and
         all(bool(row["reason"]) != row["loaded"] for row in it["transports"])'
    check "a loaded transport names its file and version" json \
        'all(row["path"] and row["version"]
             for row in it["transports"] if row["loaded"])'
    TALLY_JOB=$(printf 'q" b\\ t\t n\nm \303\251 \377 \001') TALLY_NOPE=1 \
        TALLY_LOG=error run --json -c
    check "whatever a value holds, it is valid JSON and comes out again" json \
        'rows["TALLY_JOB"]["value"] ==
             "q\" b\\ t\t n\nm \u00e9 \ufffd \u0001"'
    check "a variable that is not Tally's is listed" json \
        'it["unknown"] == ["TALLY_NOPE"]'
    check "only the sections that were asked for are in it" json \
        'list(it) == ["config", "unknown"]'
    TALLY_TIMEOUT=soon run --json
    check_equal "a wrong value makes it fail in JSON too" 1 $status
    check "but it is valid JSON all the same" json \
        'rows["TALLY_TIMEOUT"]["value"] == "soon"'
else
    echo "python3 has no json module: JSON is not checked"
fi

# --------------------------------------------------------------- manual pages

page=tools/tally.7
[ -e $page ] || page=$srcdir/tools/tally.7
run --man
check "tally(7) is what --man prints" cmp -s "$out" "$page"
TALLY_TIMEOUT=7.5 TALLY_NOPE=1 TALLY_LOG=nonsense run --man
check "whatever the environment says" cmp -s "$out" "$page"
check_equal "every variable is in tally(7)" "$(table)" \
    "$(sed -n 's/^\.It Ev \(TALLY_[A-Z0-9_]*\)$/\1/p' "$page")"

for tool in tally_doctor tally_info tally_perf tally_run; do
    [ -x tools/$tool ] || continue
    timeout 60 tools/$tool --help >"$out"
    for option in $(grep -o -e '--[a-z][a-z-]*' "$out" | sort -u); do
        [ "$option" != --help ] || continue
        check "$tool(1) describes $option" grep -q \
            "^\.It .*Fl .*-${option#--}\( \|$\)" "$srcdir/tools/$tool.1"
    done
done

if command -v mandoc >/dev/null; then
    for file in "$page" "$srcdir"/tools/*.1; do
        # Pages that are referred to need not be installed here.
        mandoc -T lint "$file" 2>&1 | grep -v "^mandoc: outdated mandoc.db" |
            grep -v "STYLE: referenced manual not found" >"$out"
        check "mandoc finds nothing in ${file##*/}" [ ! -s "$out" ]
        cat "$out"
    done
else
    echo "mandoc is not there: the pages are not checked"
fi

check_end
