#!/usr/bin/env bash
# Builds the extension with sanitizers in a directory of its own and runs the engine, parity and soak
# tests on it. A report is a failure, whatever the tests say. Needs gcc with its sanitizer libraries.
# Usage: ci/sanitize.sh [address|thread]... [-- PYTEST-ARGUMENT...]
# address: memory errors, undefined behaviour and leaks, with every send in a batch (see
# fastlb/native/batch.pxd). thread: data races, with two workers and batches in busy turns.
# PYTHON: one that can build and test fastlb; without it a virtual environment is made.
set -euo pipefail
cd "$(dirname "$0")/.."

project=$PWD
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1

fail() {
    echo "sanitize: $*" >&2
    exit 1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        local found
        found=$(command -v "$PYTHON")
        echo "$(cd "$(dirname "$found")" && pwd)/$(basename "$found")"
        return
    fi
    "$(ci/find-python.sh)" -m venv "$room/venv"
    "$room/venv/bin/python" -m pip install -r ci/requirements-build.txt -r ci/requirements-test.txt
    echo "$room/venv/bin/python"
}

# Copies the source to $room/$1 and builds it there with -fsanitize=$2.
build() {
    local here=$room/$1
    mkdir -p "$here/reports"
    tar -cf - --exclude='*.so' --exclude=__pycache__ fastlb tests docs setup.py pyproject.toml README.md \
        | tar -xf - -C "$here"
    echo "== building with -fsanitize=$2"
    (cd "$here" && FASTLB_SANITIZE=$2 "$python" setup.py -q build_ext --inplace) >"$room/log" 2>&1 \
        || { cat "$room/log"; fail "the build with -fsanitize=$2 failed"; }
}

# Runs the tests on the build in $room/$1. The interpreter is not instrumented, so the library $2
# has to be there before it.
run_tests() {
    local here=$room/$1 library
    library=$("${CC:-gcc}" -print-file-name="$2.so")
    [ -e "$library" ] || fail "there is no $2.so"
    shift 2
    # UBSan beside ASan writes to standard error whatever its log_path, so that is not captured.
    local suite=("$python" -m pytest -q --capture=sys -p no:cacheprovider --timeout 300 "${workers[@]}" "$@")
    cd "$here"
    echo "== tests with $library"
    PYTHONPATH=$here LD_PRELOAD=$library "${suite[@]}" --engine native tests/engine tests/soak \
        || failed+=("$(basename "$here"): tests")
    # Status 5 of pytest: the arguments have left no test.
    PYTHONPATH=$here LD_PRELOAD=$library "${suite[@]}" --engine both tests/parity || [ $? = 5 ] \
        || failed+=("$(basename "$here"): parity tests")
    cd "$project"
}

# Prints what was reported. Leaks count if fastlb is in their stack; those of the interpreter and of
# other extensions, which live until the process ends, do not.
read_reports() {
    local reports
    reports=$(find "$room/$1/reports" -type f -exec awk '
        BEGIN { RS = ""; ORS = "\n\n" }
        /LeakSanitizer: detected memory leaks/ || /^SUMMARY: .* leaked in / { next }
        /^(Direct|Indirect) leak of / && !/fastlb\/native\// { next }
        { print }' {} +)
    [ -z "$reports" ] || { echo "$reports"; failed+=("$1: reports"); }
}

check_address() {
    local workers=()
    build address address,undefined
    # The interpreter's own allocator would hide errors in objects, and pointers to what has leaked.
    export PYTHONMALLOC=malloc FASTLB_IO_URING=always
    export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:log_path=$room/address/reports/asan
    export UBSAN_OPTIONS=print_stacktrace=1:log_path=$room/address/reports/ubsan LSAN_OPTIONS=exitcode=0
    run_tests address libasan "$@"
    unset PYTHONMALLOC FASTLB_IO_URING
    read_reports address
}

check_thread() {
    local workers=(--workers 2)
    build thread thread
    export TSAN_OPTIONS=log_path=$room/thread/reports/tsan:history_size=4:second_deadlock_stack=1
    run_tests thread libtsan "$@"
    read_reports thread
}

kinds=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case $1 in
        address | thread) kinds+=("$1") ;;
        *) fail "$1 is neither address nor thread" ;;
    esac
    shift
done
[ $# -eq 0 ] || shift
[ ${#kinds[@]} -gt 0 ] || kinds=(address thread)

python=$(find_python)
ulimit -n "$(ulimit -Hn)"
failed=()
for kind in "${kinds[@]}"; do
    SECONDS=0
    "check_$kind" "$@"
    echo "== $kind: $SECONDS s"
done
for what in "${failed[@]}"; do echo "sanitize: $what" >&2; done
[ ${#failed[@]} -eq 0 ]
