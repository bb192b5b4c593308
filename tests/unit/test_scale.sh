#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Tests of bench/scale and of what its scripts write.
srcdir=${srcdir:-$(dirname "$0")/../..}
. "$srcdir/tests/harness/shell.sh"

python3 -c "import json, xml.etree.ElementTree" 2>/dev/null ||
    check_skip "python3 has no json or no xml module"
json=$scratch/scale.json
mkdir "$scratch/first" "$scratch/second"

# Whether a Python expression on the points, and the profiles by name, holds.
points() {
    python3 - "$json" "$1" <<'PYTHON'
import json, sys
it = json.load(open(sys.argv[1], encoding="utf-8"))
profiles = {profile["name"]: profile for profile in it["profiles"]}
points = it["points"]
sys.exit(not eval("(" + sys.argv[2] + ")"))
PYTHON
}

# Whether an SVG is well-formed and all of its words and lines are inside.
svg_whole() {
    python3 - "$1" <<'PYTHON'
import sys
import xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
width, height = float(root.get("width")), float(root.get("height"))
curves = 0
for part in root:
    places = [(part.get(x), part.get(y))
              for x, y in (("x", "y"), ("x1", "y1"), ("x2", "y2"))]
    if part.get("points"):
        curves += 1
        places += [pair.split(",") for pair in part.get("points").split()]
    for x, y in places:
        if x is not None and not (0 <= float(x) <= width and
                                  0 <= float(y) <= height):
            sys.exit(f"{x} {y}")
sys.exit(curves < 15)
PYTHON
}

# What scale.py says of the JSON with an edit.
faulty() { # SED-EXPRESSION
    sed "$1" "$json" >"$scratch/faulty.json"
    not cmp -s "$json" "$scratch/faulty.json" &&
        not python3 "$srcdir/bench/scale.py" "$scratch/faulty.json" \
            "$scratch/faulty.md" "$scratch/faulty.svg" 2>"$scratch/err"
}

check "scale prints JSON" sh -c "bench/scale --max 64 >'$json'"
check "every total is right at every rank" \
    points 'all(p["wrong"] == 0 for p in points)'
check "two ranks take one way, and jitter and cards at most" points \
    'all(profiles[p["profile"]]["one_way_ns"] <= p["time_ns"]
         <= profiles[p["profile"]]["one_way_ns"] * 1.01 + 300 +
            profiles[p["profile"]]["jitter_ns"]
         for p in points if p["ranks"] == 2)'
check "a plan of one radix has no other factor" points \
    'all(set(p["factors"]) == {int(p["plan"])}
         for p in points if p["plan"].isdigit())'
check_equal "ranks that are not a number are refused" 2 \
    "$(bench/scale --max many 2>/dev/null; echo $?)"
check_equal "more ranks than it is made for are refused" 2 \
    "$(bench/scale --max 100001 2>/dev/null; echo $?)"

check "the table and the curves are written" \
    "$srcdir/bench/scale.sh" . 64 "$scratch/first"
check "once more" "$srcdir/bench/scale.sh" . 64 "$scratch/second"
check "both are the same again" diff -r "$scratch/first" "$scratch/second"
for name in scale.md scale.svg; do
    check "$name says not to edit it" \
        grep -q 'Written by .*; do not edit' "$scratch/first/$name"
done
check "the curves are whole" svg_whole "$scratch/first/scale.svg"
check "those in doc are whole" svg_whole "$srcdir/doc/scale.svg"
grep '^| [0-9]' "$scratch/first/scale.md" >"$scratch/rows"
check_equal "doc/scale.md has the same rows" "" \
    "$(grep -vxFf "$srcdir/doc/scale.md" "$scratch/rows")"
check "a wrong total is not passed over" \
    faulty '0,/"wrong": *0/s//"wrong": 1/'
check "a message too many is not passed over" \
    faulty '0,/"sent_max": *1,/s//"sent_max": 4,/'

check_end
