# Everything needs only make and a Python 3.11 or newer with venv. A set-up step leaves a stamp beside what it made, so
# that it runs again only when its lock changed or its result was removed.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

DATA ?= ./data
ARGS ?=

# Tests wait more than they compute: one process more than there are processors. The tests of a file stay together, and
# files keep their order, in which the long ones come early.
JOBS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
PYTEST = $(PY) -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

VENV := .venv
PY := $(VENV)/bin/python
WEB := dashboards/web
PAGE := hub/http/static/index.html

# The first interpreter that is new enough and can make environments.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$python; break; }; done)

# Node is taken from the machine where it is one that the dashboard's tools support, else from a package.
NODE_IS_SUPPORTED := const [major, minor] = process.versions.node.split(".").map(Number); \
	process.exit(major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19) ? 0 : 1)
ifeq ($(shell node -e '$(NODE_IS_SUPPORTED)' 2>/dev/null && npm --version >/dev/null 2>&1 && echo yes),yes)
NODE_READY :=
else
NODE_READY := build/node/.ready
export PATH := $(CURDIR)/build/node/bin:$(PATH)
endif

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help run test check fmt bench bench-billion chaos lock upgrade dist setup clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: setup $(PAGE) ## start the hub with this computer's sensors and a simulated fleet; Ctrl-C stops it
	@# On a terminal the hub gets the foreground to itself: Ctrl-C reaches the hub and not make, and make ends
	@# well if the hub does. Elsewhere the hub takes the shell's place and gets the signals that make passes on.
	@if [ -t 0 ]; then set -m; $(VENV)/bin/hub run --demo --data $(DATA) $(ARGS); \
	else exec $(VENV)/bin/hub run --demo --data $(DATA) $(ARGS); fi

test: setup $(PAGE) ## run every test: Python, TypeScript and the browser
	@mkdir -p build; rm -f build/typescript-tests.json; status=0; \
	$(PY) -m tests.services || status=1; \
	$(PYTEST) $(ARGS) || status=1; \
	npm --prefix $(WEB) test -- --reporter=default --reporter=json \
		--outputFile.json=$(CURDIR)/build/typescript-tests.json || status=1; \
	$(PY) -m tests.skips build/typescript-tests.json || status=1; \
	exit $$status

check: setup $(WEB)/node_modules/.ready ## check style, types and the borders between the rooms
	@# All of them run, so that one look shows everything there is to repair.
	@status=0; \
	$(PY) -m ruff check . || status=1; \
	$(PY) -m ruff format --check . || status=1; \
	$(PY) -m mypy || status=1; \
	$(VENV)/bin/lint-imports --no-logo --cache-dir build/import-linter || status=1; \
	npm --prefix $(WEB) run check || status=1; \
	exit $$status

fmt: setup $(WEB)/node_modules/.ready ## format everything and repair what can be repaired
	$(PY) -m ruff check --fix-only .
	$(PY) -m ruff format .
	npm --prefix $(WEB) run fmt

bench: setup $(PAGE) ## measure what the hub promises, into build/bench.json
	@mkdir -p build
	$(PY) -m bench $(ARGS)

bench-billion: setup ## measure a day of one metric out of a billion stored readings: 15 GB of disk, some 10 minutes
	@mkdir -p build
	$(PY) -m bench --row billion $(ARGS)

READINGS ?= 1000000

chaos: setup ## kill, cut and restart everything between a million readings each way and MQTT
	HUB_TEST_CHAOS_READINGS=$(READINGS) $(PY) -m pytest -s tests/end_to_end/test_mqtt_chaos.py $(ARGS)

dist: setup $(PAGE) ## build the wheel and the source distribution into dist/
	$(PY) -m build --no-isolation

COMPILE = $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header $(UPGRADE)

lock: setup $(NODE_READY) ## bring the locks in line with what pyproject.toml and package.json ask for
	$(COMPILE) pyproject.toml --extra hub --group dev --output-file requirements/dev.txt >/dev/null
	$(COMPILE) pyproject.toml --extra hub --constraints requirements/dev.txt --output-file requirements/hub.txt >/dev/null
	$(COMPILE) --group pyproject.toml:build --constraints requirements/dev.txt --output-file requirements/build.txt >/dev/null
	$(COMPILE) --group pyproject.toml:web --output-file requirements/node.txt >/dev/null
	cd $(WEB) && npm $(if $(UPGRADE),update,install) --package-lock-only

upgrade: ## renew the locks: the newest version of everything that is still allowed
	$(MAKE) lock UPGRADE=--upgrade

setup: $(VENV)/.ready ## make .venv from the lock and install the project into it

clean: ## remove everything that these commands made, but not ./data
	rm -rf $(VENV) build dist $(WEB)/node_modules $(dir $(PAGE)) \
		.mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find wire hub agent_client importer device_agent device_sim tests bench -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# An environment that lost its interpreter (moved, or upgraded away) is made again.
$(VENV)/.locked: requirements/dev.txt
	@if ! $(PY) -c pass 2>/dev/null; then \
		if [ -z "$(PYTHON)" ]; then echo "make: found no Python 3.11 or newer with venv (Debian: apt install python3-venv)" >&2; exit 1; fi; \
		echo "making $(VENV) with $(PYTHON)"; $(PYTHON) -m venv --clear $(VENV); \
	fi
	$(PY) -m pip install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.ready: $(VENV)/.locked pyproject.toml
	$(PY) -m pip install --quiet --no-build-isolation --no-deps -e .
	@touch $@

build/node/.ready: requirements/node.txt | $(VENV)/.locked
	@echo "this machine has no Node that fits (20.19, or 22.12 and newer): taking it from a package"
	$(PY) -m venv --clear build/node
	build/node/bin/python -m pip install --quiet --require-hashes -r requirements/node.txt
	@touch $@

$(WEB)/node_modules/.ready: $(WEB)/package-lock.json $(WEB)/.npmrc $(NODE_READY)
	npm --prefix $(WEB) ci
	@touch $@

$(PAGE): $(WEB)/node_modules/.ready $(shell find $(WEB) -type f -not -path '*/node_modules/*' 2>/dev/null)
	npm --prefix $(WEB) run build
	@touch $@
