#!/usr/bin/env bash
# Builds the sdist, a pure wheel and a native wheel from that sdist into dist/, looks into each, and
# runs the suite on each wheel in a virtual environment of its own.
# Usage: ci/wheels.sh [--no-tests]
set -euo pipefail
cd "$(dirname "$0")/.."

project=$PWD
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1

fail() {
    echo "wheels: $*" >&2
    exit 1
}

# Fails if a name in list $2 matches pattern $1. The list is a file: a pipe into `grep -q` would
# break the writer.
must_not_have() { if grep -E "$1" "$2"; then fail "$3"; fi; }
must_have() { grep -E "$1" "$2" >/dev/null || fail "$3"; }

build_all() {
    "$(ci/find-python.sh)" -m venv "$room/build"
    local python=$room/build/bin/python
    "$python" -m pip install -r ci/requirements-build.txt
    rm -rf dist
    echo "== sdist"
    "$python" -m build --sdist --no-isolation --outdir dist . >"$room/log" 2>&1 || { cat "$room/log"; exit 1; }
    local kind
    for kind in pure native; do
        echo "== $kind wheel, from the sdist"
        mkdir "$room/$kind"
        tar -xzf dist/fastlb-*.tar.gz -C "$room/$kind" --strip-components=1
        FASTLB_NO_EXTENSIONS=$([ "$kind" = pure ] && echo 1 || echo 0) \
            "$python" -m build --wheel --no-isolation --outdir dist "$room/$kind" >"$room/log" 2>&1 \
            || { cat "$room/log"; exit 1; }
    done
}

look_inside() {
    tar -tzf dist/fastlb-*.tar.gz >"$room/sdist.txt"
    python3 -m zipfile -l dist/fastlb-*-py3-none-any.whl >"$room/pure.txt" || fail "no wheel tagged py3-none-any"
    python3 -m zipfile -l dist/fastlb-*-linux_*.whl >"$room/native.txt" || fail "no native wheel"
    must_have 'fastlb/native/.*\.pyx' "$room/sdist.txt" "the sdist has no Cython source"
    must_have 'fastlb/native/.*\.h$' "$room/sdist.txt" "the sdist has no C header"
    must_have 'tests/conftest\.py' "$room/sdist.txt" "the sdist has no tests"
    must_not_have '(fastlb/.*\.c|\.so)$' "$room/sdist.txt" "the sdist has generated files"
    must_have 'native/.*\.so' "$room/native.txt" "the native wheel has no extension"
    must_not_have '\.c ' "$room/native.txt" "the native wheel has generated C"
    must_not_have '\.(so|c) ' "$room/pure.txt" "the pure wheel has compiled or generated files"
}

test_wheel() {
    local wheel=$1 engine=$2 venv
    echo "== tests of $(basename "$wheel"), engine: $engine"
    venv=$room/venv-$engine
    "$(ci/find-python.sh)" -m venv "$venv"
    "$venv/bin/python" -m pip install -r ci/requirements-test.txt "$wheel"
    ci/test-installed.sh "$project" "$engine" "$venv/bin/python"
}

build_all
look_inside
if [ "${1:-}" != --no-tests ]; then
    # Only the pure engine is in the pure wheel, so only that one is asked for.
    test_wheel dist/fastlb-*-py3-none-any.whl pure
    test_wheel dist/fastlb-*-linux_*.whl both
fi
ls -l dist
