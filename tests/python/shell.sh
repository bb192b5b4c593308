# SPDX-License-Identifier: BSD-3-Clause
# What the tests of the Python package share. Sourced after harness/shell.sh.

source_dir=$(cd "${srcdir:-.}" && pwd)
TALLY_LIBRARY=$(pwd)/.libs/libtally.so
PYTHONPATH=$source_dir/python
PYTHONDONTWRITEBYTECODE=1
export TALLY_LIBRARY PYTHONPATH PYTHONDONTWRITEBYTECODE

# Where ./dev keeps PyTorch between runs.
venv=${PYTHON_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/tally/venv}

if nm -D .libs/libtally.so 2>/dev/null | grep -Eq '__(a|t)san_init'; then
    check_skip "libtally.so is built with a sanitizer, which python3 is not"
fi

# has MODULE: the venv has it. It is not imported, which takes long: one that cannot
# be imported is not left out, but fails.
has() {
    "$venv/bin/python" -c "import importlib.util as util, sys
sys.exit(util.find_spec('$1') is None)" 2>/dev/null
}

python_torch_required() {
    torch_python=$venv/bin/python
    has torch ||
        check_skip "there is no PyTorch in $venv: ./dev test makes it"
}

# unittest_files PYTHON FILE...: the last line is Check's. The shell's own counts
# are not needed.
unittest_files() {
    python=$1
    shift
    status=0
    "$python" "$source_dir/tests/python/run.py" "$@" || status=$?
    ended=yes
    exit "$status"
}
