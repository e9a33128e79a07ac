#!/usr/bin/env bash
# Runs the suite on the fastlb that is installed for `python`, from a directory without its source.
# Usage: ci/test-installed.sh PROJECT ENGINE [PYTHON [PYTEST-ARGUMENT...]]
# ENGINE: native, pure or both
set -euo pipefail

project=$(cd "$1" && pwd)
engine=$2
python=${3:-python}
shift $(($# < 3 ? $# : 3))

room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
cp -R "$project/tests" "$project/docs" "$project/pyproject.toml" "$project/README.md" "$room/"
cd "$room"
ulimit -n "$(ulimit -Hn)"
# The name of the file that was imported shows that it is not the source tree.
"$python" -c 'import fastlb, sys; print("testing", fastlb.__file__)
sys.exit(fastlb.__file__.startswith(sys.argv[1]))' "$project/fastlb/"
"$python" -m pytest --engine "$engine" "$@"
