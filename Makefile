# Everything runs in a virtual environment that the first target needing it makes.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Side by side in `make test`. More than the cores: many tests wait, for a lease to run out or a process to start.
PROCESSES ?= 3

# The tests start hundreds of processes; without bytecode each of them would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install run send test test-browser check format lint types imports bench bench-schedules bench-observation
.PHONY: coverage settings-page bench-dashboard chaos long metrics-check conformance clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml constraints.txt arqestra/version.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

install: $(STAMP)  ## make the virtual environment

run: $(STAMP)  ## start servers and workers, run the showcase on real input, go on serving (ONCE=1 exits, IMAGES=dir, DATA=file.csv)
	@IMAGES="$(IMAGES)" DATA="$(DATA)" ONCE="$(ONCE)" $(BIN)/python -m jobs.showcase

send: $(STAMP)  ## enqueue one job on a running service (TO=address)
	@$(BIN)/python -m jobs.send $(if $(TO),--to "$(TO)")

test: $(STAMP)  ## all tests in their short form, about 7 minutes on 2 idle cores (PROCESSES=n side by side)
	$(BIN)/python -m pytest -q -m "alone and not slow"
	$(BIN)/python -m pytest -q -m "not alone and not slow" -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

# Not a part of `make check`: the tests take 30 to 50% more of the processor under it. Left out are the test of forks,
# which end behind a job by the same hook of Python that coverage needs, and those of the scripts by hypothesis, which
# are several times slower and run Lua above all.
coverage: $(STAMP)  ## coverage by the tests of `make test`: the lines of arqestra/ that none of them runs
	rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/coverage run -m pytest -q -m "not alone and not slow" -n $(PROCESSES) --dist loadfile --no-loadscope-reorder \
		--ignore tests/integration/test_fork.py --ignore tests/property
	$(BIN)/coverage combine --quiet && $(BIN)/coverage report

test-browser: $(STAMP)  ## the dashboard in Debian's Chromium, through every page and action; renews docs/dashboard/*.webp
	SCREENSHOTS=docs/dashboard $(BIN)/python -m pytest -q tests/browser -m "slow or not slow" --timeout 300

conformance: $(STAMP)  ## arq's own test suite against arqestra
	$(BIN)/python -m pytest -q tests/conformance

chaos: $(STAMP)  ## the long form of the chaos suite
	$(BIN)/python -m pytest -q tests/chaos -m "slow or not slow" --timeout 900

long: $(STAMP)  ## the tests that are too long for `make test`, but for those of `make chaos`
	$(BIN)/python -m pytest -q tests --ignore tests/chaos -m slow --timeout 3600

metrics-check: $(STAMP)  ## the real promtool and Prometheus against deploy/ and live processes
	$(BIN)/python -m pytest -q tests/observe/test_prometheus.py -m slow

format: $(STAMP)  ## put the code into form, and mend what the linter can mend
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

settings-page: $(STAMP)  ## renew docs/settings.md out of the code
	$(BIN)/python -m docs.settings_page

lint: $(STAMP)
	$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m tests.support.import_direction

check: lint types imports test  ## format, lint, types, import direction, tests

bench: $(STAMP)  ## ours and the peers in one run: a table, JSON and a chart
	$(BIN)/python -m benchmarks

bench-schedules: $(STAMP)  ## what firing schedules costs: lateness, and 10,000 schedules of one tick a minute
	$(BIN)/python -m benchmarks.schedules

bench-observation: $(STAMP)  ## what statistics, recent jobs and the registry cost: no-op throughput with them and without
	$(BIN)/python -m benchmarks.observation

bench-dashboard: $(STAMP)  ## what looking costs by the dashboard, with 1,000,000 queued jobs: pages, lag, the workers
	$(BIN)/python -m benchmarks.dashboard

trace-job: $(STAMP)  ## run one job and print each file of the library on its way
	$(BIN)/python -m tests.trace_job

clean:  ## remove the virtual environment and everything generated
	rm -rf $(VENV) benchmarks/.envs benchmarks/out data
