# Every command needs only make and Python 3.11 or newer with venv. A set-up step leaves a stamp beside its result: it
# runs again only if its lock file changed or its result was removed.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

DATA ?= ./data
ARGS ?=

# Tests wait more than they compute, so there is one process more than there are processors. The tests of a file stay
# together, and the files keep their order: the long ones run early.
JOBS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
PYTEST = $(PY) -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

VENV := .venv
PY := $(VENV)/bin/python
WEB := dashboards/web
PAGE := hub/http/static/index.html

# The first interpreter that is new enough and can create environments.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$python; break; }; done)

# Use the machine's Node if the dashboard's tools support its version, otherwise one from a Python package.
NODE_IS_SUPPORTED := const [major, minor] = process.versions.node.split(".").map(Number); \
	process.exit(major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19) ? 0 : 1)
ifeq ($(shell node -e '$(NODE_IS_SUPPORTED)' 2>/dev/null && npm --version >/dev/null 2>&1 && echo yes),yes)
NODE_READY :=
else
NODE_READY := build/node/.ready
export PATH := $(CURDIR)/build/node/bin:$(PATH)
endif

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help run test check api-types fmt bench bench-billion chaos damage fuzz lock upgrade dist setup clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: setup $(PAGE) ## start the hub with this computer's sensors and a simulated fleet; Ctrl-C stops it
	@# On a terminal the hub runs alone in the foreground: Ctrl-C reaches the hub and not make, and make succeeds if
	@# the hub does. Elsewhere the hub replaces the shell and receives the signals that make forwards.
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

# Packages that run on every system: the agent, its library and the simulator.
PORTABLE = wire formats integrity agent_client device_agent device_sim

check: setup $(WEB)/node_modules/.ready ## check style, types, borders between packages, and prose
	@# All checks run, so that one run shows every finding.
	@status=0; \
	$(PY) -m ruff check . || status=1; \
	$(PY) -m ruff format --check . || status=1; \
	$(PY) -m mypy || status=1; \
	for system in darwin win32; do \
		$(PY) -m mypy --platform $$system --no-warn-unreachable --cache-dir build/mypy-$$system $(PORTABLE) || status=1; \
	done; \
	$(VENV)/bin/lint-imports --no-logo --cache-dir build/import-linter || status=1; \
	$(PY) -m tests.prose || status=1; \
	$(API_TYPES) -- --check || { echo "the page's types are stale: run make api-types" >&2; status=1; }; \
	npm --prefix $(WEB) run check || status=1; \
	exit $$status

# The types of the page are generated from the OpenAPI document, which is made from the structs of the API.
API_TYPES = $(PY) -m hub.http.openapi --schemas | npm --prefix $(WEB) run --silent api-types

api-types: setup $(WEB)/node_modules/.ready ## generate the page's types from the API's structs
	$(API_TYPES)

fmt: setup $(WEB)/node_modules/.ready ## format everything and fix what can be fixed automatically
	$(PY) -m ruff check --fix-only .
	$(PY) -m ruff format .
	npm --prefix $(WEB) run fmt

bench: setup $(PAGE) ## measure the performance of the hub, into build/bench.json
	@mkdir -p build
	$(PY) -m bench $(ARGS)

bench-billion: setup ## query a day of one metric among a billion stored readings: 15 GB of disk, about 10 minutes
	@mkdir -p build
	$(PY) -m bench --row billion $(ARGS)

READINGS ?= 1000000

chaos: setup ## send a million readings each way through MQTT while everything is killed and restarted
	HUB_TEST_CHAOS_READINGS=$(READINGS) $(PY) -m pytest -s tests/end_to_end/test_mqtt_chaos.py $(ARGS)

damage: setup ## damage every file of a hub and an agent in every way, and see what is lost: 40 minutes
	$(PY) -m tests.damage $(ARGS)

MINUTES ?= 10

fuzz: setup build/fuzz/.ready ## try to break the readers of foreign data for 10 minutes, or MINUTES=n
	PYTHONPATH=$(CURDIR)/build/fuzz/packages $(PY) -m tests.formats.fuzz --minutes $(MINUTES) $(ARGS)

# There are wheels for some versions of Python only. Without one Hypothesis searches.
build/fuzz/.ready: requirements/fuzz.txt $(VENV)/.locked
	@mkdir -p build/fuzz
	$(PY) -m pip install --quiet --target build/fuzz/packages --upgrade --require-hashes -r requirements/fuzz.txt \
		|| echo "atheris cannot be installed for this Python: Hypothesis searches instead"
	@touch $@

dist: setup $(PAGE) ## build the wheel and the source distribution into dist/
	$(PY) -m build --no-isolation

COMPILE = $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header $(UPGRADE)

lock: setup $(NODE_READY) ## update the lock files to match pyproject.toml and package.json
	$(COMPILE) pyproject.toml --extra hub --group dev --output-file requirements/dev.txt >/dev/null
	$(COMPILE) pyproject.toml --extra hub --constraints requirements/dev.txt --output-file requirements/hub.txt >/dev/null
	$(COMPILE) --group pyproject.toml:build --constraints requirements/dev.txt --output-file requirements/build.txt >/dev/null
	$(COMPILE) --group pyproject.toml:fuzz --output-file requirements/fuzz.txt >/dev/null
	$(COMPILE) --group pyproject.toml:web --output-file requirements/node.txt >/dev/null
	cd $(WEB) && npm $(if $(UPGRADE),update,install) --package-lock-only

upgrade: ## update the lock files to the newest allowed version of everything
	$(MAKE) lock UPGRADE=--upgrade

setup: $(VENV)/.ready ## create .venv from the lock file and install the project into it

clean: ## remove everything that these commands created, except ./data
	rm -rf $(VENV) build dist $(WEB)/node_modules $(dir $(PAGE)) \
		.mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find wire formats integrity hub agent_client importer device_agent device_sim tests bench -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# Create the environment again if its interpreter was moved or removed by an upgrade.
$(VENV)/.locked: requirements/dev.txt
	@if ! $(PY) -c pass 2>/dev/null; then \
		if [ -z "$(PYTHON)" ]; then echo "make: found no Python 3.11 or newer with venv (Debian: apt install python3-venv)" >&2; exit 1; fi; \
		echo "creating $(VENV) with $(PYTHON)"; $(PYTHON) -m venv --clear $(VENV); \
	fi
	$(PY) -m pip install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.ready: $(VENV)/.locked pyproject.toml
	$(PY) -m pip install --quiet --no-build-isolation --no-deps -e .
	@touch $@

build/node/.ready: requirements/node.txt | $(VENV)/.locked
	@echo "no supported Node (20.19, or 22.12 and newer) on this machine: installing one from a package"
	$(PY) -m venv --clear build/node
	build/node/bin/python -m pip install --quiet --require-hashes -r requirements/node.txt
	@touch $@

$(WEB)/node_modules/.ready: $(WEB)/package-lock.json $(WEB)/.npmrc $(NODE_READY)
	npm --prefix $(WEB) ci
	@touch $@

$(PAGE): $(WEB)/node_modules/.ready $(shell find $(WEB) docs/clients -type f -not -path '*/node_modules/*' 2>/dev/null)
	npm --prefix $(WEB) run build
	@touch $@
