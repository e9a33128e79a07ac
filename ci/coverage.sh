#!/usr/bin/env bash
# Says which lines and branches the suite goes through: of Python with coverage.py, processes that a
# test starts included, and of the native engine with gcov. Builds in a directory of its own; the
# pages are in build/coverage/. Needs gcc with gcov.
# Usage: ci/coverage.sh [PYTEST-ARGUMENT...]
# PYTHON: one that can build and test fastlb and has coverage; without it an environment is made.
set -euo pipefail
cd "$(dirname "$0")/.."

project=$PWD
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1
pages=$project/build/coverage

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        local found
        found=$(command -v "$PYTHON")
        echo "$(cd "$(dirname "$found")" && pwd)/$(basename "$found")"
        return
    fi
    "$(ci/find-python.sh)" -m venv "$room/venv"
    "$room/venv/bin/python" -m pip install -r ci/requirements-build.txt -r ci/requirements-coverage.txt
    echo "$room/venv/bin/python"
}

build() {
    mkdir "$room/source"
    tar -cf - --exclude='*.so' --exclude=__pycache__ fastlb tests examples docs setup.py pyproject.toml README.md \
        | tar -xf - -C "$room/source"
    cd "$room/source"
    export FASTLB_COVERAGE=1
    "$python" setup.py -q egg_info -e "$room" >"$room/log" 2>&1 || { cat "$room/log"; exit 1; }
    # What Cython writes behind the functions of a .pyx stands under that file's last #line.
    sed -i 's|^/\* #### Code section: .*|#line 1 "cython_generated"\n&|' build/cython/fastlb/native/*.c
    # A label counts as the line behind the one before it, unless it is said again which that is.
    sed -i -E '/^#line /h; /^ *(case +[0-9]+|default): *$/{x;p;x}' build/cython/fastlb/native/*.c
    "$python" setup.py -q build_ext --inplace >"$room/log" 2>&1 || { cat "$room/log"; exit 1; }
}

python=$(find_python)
echo "== building for gcov"
build
echo "== tests"
ulimit -n "$(ulimit -Hn)"
export PYTHONPATH=$room/source
status=0
"$python" -m coverage run -m pytest -q -p no:cacheprovider --timeout 300 --engine both "$@" || status=$?
rm -rf "$pages"
echo "== Python"
"$python" -m coverage combine -q
"$python" -m coverage report
"$python" -m coverage html -q -d "$pages/python"
echo "== Cython"
"$python" "$project/ci/native_coverage.py" "$room/source" build "$pages/native"
exit $status
