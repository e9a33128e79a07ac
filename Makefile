# Two commands matter: `make run` and `make test`. Each makes .venv and builds what has changed.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
PYTHON_IN := $(VENV)/bin/python
PIP := $(PYTHON_IN) -m pip --disable-pip-version-check
# cython-lint calls pycodestyle by name.
export PATH := $(abspath $(VENV)/bin):$(PATH)
NATIVE := $(wildcard fastlb/native/*.pyx fastlb/native/*.pxd fastlb/native/*.h)
# As many open files as allowed: the tests and the benchmarks hold thousands of connections.
MORE_FILES := ulimit -n "$$(ulimit -Hn)"
# What `make soak` does on each engine: at least so long, and at least so many exchanges.
SECONDS := 300
EXCHANGES := 0
# More arguments for the tool behind a target: make test ARGS='-k retry'
ARGS :=

.PHONY: help build run test fuzz lint bench micro soak wheels sanitize coverage clean

help:
	@echo "make run     build, then start the demo on http://127.0.0.1:8080/"
	@echo "make test    build, then run every test on both engines"
	@echo "make fuzz    fuzz the HTTP parsers for ten minutes: ARGS='--seconds 60 --seed 1'"
	@echo "make lint    ruff, mypy, cython-lint, import-linter"
	@echo "make bench   build, then measure beside HAProxy, nginx and Envoy"
	@echo "make micro   measure the heap, the parser and the relay of each engine alone"
	@echo "make wheels  build sdist and wheels, and test each where it is installed"
	@echo "make soak    build, then random aborts on each engine: at least SECONDS=300 and EXCHANGES=0"
	@echo "make sanitize   run the engine tests with sanitizers for memory, behaviour and threads"
	@echo "make coverage   run every test and say which lines and branches none goes through"
	@echo "make clean   remove everything that was built, and .venv"

build: $(VENV)/built

run: build
	$(VENV)/bin/fastlb demo $(ARGS)

test: build $(VENV)/has-test $(VENV)/has-peers
	$(MORE_FILES) && $(PYTHON_IN) -m pytest --engine both $(ARGS)

fuzz: build $(VENV)/has-fuzz
	ci/fuzz.sh $(PYTHON_IN) $(ARGS)

lint: $(VENV)/has-lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy --strict fastlb
	$(VENV)/bin/cython-lint fastlb/native
	$(VENV)/bin/lint-imports

bench: build $(VENV)/has-bench
	@command -v wrk >/dev/null || { echo "make bench needs wrk: apt-get install wrk" >&2; exit 1; }
	$(MORE_FILES) && $(PYTHON_IN) -m benchmarks $(ARGS)

micro: build $(VENV)/has-test
	$(PYTHON_IN) -m pytest benchmarks/micro --engine both --benchmark-group-by=group $(ARGS)

soak: build $(VENV)/has-test
	$(MORE_FILES) && $(PYTHON_IN) -m pytest --engine both tests/soak -q -s --timeout 0 \
		--soak-seconds $(SECONDS) --soak-exchanges $(EXCHANGES) $(ARGS)

wheels:
	ci/wheels.sh

sanitize: $(VENV)/has-build $(VENV)/has-test
	PYTHON=$(PYTHON_IN) ci/sanitize.sh $(ARGS)

coverage: $(VENV)/has-build $(VENV)/has-coverage
	PYTHON=$(PYTHON_IN) ci/coverage.sh $(ARGS)

clean:
	rm -rf $(VENV) build dist wheelhouse fastlb.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
	find fastlb tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f fastlb/native/*.so

# Stamps: a target is made again when what it was made from is newer.
$(VENV)/made:
	python=$$(PYTHON='$(PYTHON)' ci/find-python.sh) && "$$python" -m venv $(VENV)
	touch $@

$(VENV)/has-build: $(VENV)/made ci/requirements-build.txt ci/requirements-run.txt
	$(PIP) install --quiet -r ci/requirements-build.txt -r ci/requirements-run.txt
	touch $@

$(VENV)/built: $(VENV)/has-build setup.py pyproject.toml $(NATIVE)
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/has-%: ci/requirements-%.txt $(VENV)/made ci/requirements-run.txt
	$(PIP) install --quiet -r $<
	touch $@
