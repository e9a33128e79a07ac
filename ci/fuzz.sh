#!/usr/bin/env bash
# Fuzzes the HTTP/1.1 parsers of both engines with libFuzzer, from a build of its own under
# build/fuzz: gcc counts the edges of the native code and checks it with ASan and UBSan.
# Usage: ci/fuzz.sh PYTHON [ARGUMENT...]; the arguments are those of `python -m fuzz`.
# A finding ends it with a status of not 0 and stays as crash-*; give that file to judge it alone.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$1
shift
room=build/fuzz
mkdir -p "$room"
gcc -O2 -shared -fPIC -o "$room/counters.so" tests/fuzz/counters.c
# No -fsanitize when linking: the runtime is loaded first, below, one for all modules.
CC="gcc -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined \
-fsanitize-coverage=trace-pc,trace-cmp -fno-omit-frame-pointer -w" LDSHARED="gcc -shared" \
  "$python" setup.py --quiet build --parallel 2 --build-base "$room" --build-lib "$room/lib"

# atheris brings clang's runtime of ASan and UBSan with libFuzzer in it, which gcc's code fits. The
# counters come first, because libFuzzer has a function of the same name that does nothing.
runtime=$("$python" -c 'import importlib.util as u; print(u.find_spec("asan_with_fuzzer").origin)')
# Python never gives all its memory back, and has an allocator that ASan cannot look into. Statics
# of functions that Cython makes for each module have one name, which is no fault.
export ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0:detect_odr_violation=0 UBSAN_OPTIONS=print_stacktrace=1
export PYTHONMALLOC=malloc
# Not the fastlb of this directory, which has no counters.
export PYTHONSAFEPATH=1
LD_PRELOAD="$PWD/$room/counters.so $runtime" PYTHONPATH="$PWD/$room/lib:$PWD/tests" \
  exec "$python" -m fuzz --room "$room" "$@"
