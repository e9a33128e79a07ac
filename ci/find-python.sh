#!/usr/bin/env bash
# Prints a Python that can make the virtual environment: $PYTHON, or the first of 3.10 and later.
set -euo pipefail

usable() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python3.10}; do
    if command -v "$python" >/dev/null && usable "$python"; then
        echo "$python"
        exit 0
    fi
done
{
    echo "fastlb needs Python 3.10 or later with its venv module${PYTHON:+; PYTHON=$PYTHON is not that}."
    echo "On Debian: apt-get install python3 python3-venv python3-dev gcc; elsewhere: make PYTHON=/path/to/python3"
} >&2
exit 1
