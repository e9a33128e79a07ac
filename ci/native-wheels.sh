#!/usr/bin/env bash
# Builds and tests the native wheels of this machine's architecture into wheelhouse/, in the
# manylinux and musllinux images. Needs Docker. The settings are in pyproject.toml.
set -euo pipefail
cd "$(dirname "$0")/.."

room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
"$(ci/find-python.sh)" -m venv "$room/venv"
"$room/venv/bin/python" -m pip install --quiet "cibuildwheel==4.3.3"
"$room/venv/bin/python" -m cibuildwheel --platform linux --archs native --output-dir wheelhouse
