# Needs make, a shell and Python >= 3.10. Everything else is installed into virtual environments in this folder,
# with the versions in constraints/.

PYTHON ?= python3
UV ?= uv
PYTEST_ARGS ?=
CHAOS_ARGS ?=
CLUSTER_ARGS ?=
BENCH_ARGS ?=

AIRFLOW := 3.3.2
AIRFLOW_2 := 2.11.2
VENV := .venv
VENV_2 := .venv-airflow-2.11

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo ui ui-2 unit unit-3 unit-2 test screenshots chromium matrix cluster cluster-2 services chaos bench bench-waits check docs constraints clean environment environment-2 python

# Keeps the files of Airflow in this folder, away from the user's own Airflow.
export AIRFLOW_HOME := $(CURDIR)/.airflow/home

# Each of the processes of a test run would compile all tests anew.
unexport PYTHONDONTWRITEBYTECODE

help: ## list the targets
	@echo "make TARGET [PYTHON=python3.12]"
	@echo
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

demo: environment ## run the example DAG "booking" on a real Airflow against the sandbox
	@$(VENV)/bin/python scripts/demo.py

ui: environment ## run a real Airflow with its UI against the sandbox, until Ctrl-C
	@$(VENV)/bin/python scripts/ui.py

ui-2: environment-2 ## the same with Airflow 2.11
	@$(VENV)/bin/python scripts/ui.py $(VENV_2)/bin/python

# Half of the tests' time is waits, so two processes use one core. A file's tests run in one process, because they share
# fixtures and write files. A selection with PYTEST_ARGS runs in one process, where --pdb works.
PARALLEL := $(if $(PYTEST_ARGS),,--numprocesses 2 --dist loadfile)

# The run on Airflow 2 prints to a file, which is shown at the end.
UNIT_2_OUTPUT := .airflow/unit-airflow-$(AIRFLOW_2).log

# For `make test`, each version writes its coverage to a file of its own.
COVERAGE_ARGS := $(if $(COVERAGE),--cov --cov-report= --cov-fail-under=0)

unit: environment environment-2 ## run the unit tests, on both Airflow versions in parallel
	@if $(PYTHON) -c '$(SUPPORTS_2)'; then unit_2=unit-2; else echo "$(SKIPPED_2)"; fi; \
	status=0; $(MAKE) --no-print-directory --keep-going --jobs=2 unit-3 $$unit_2 || status=$$?; \
	if [ "$$unit_2" ]; then cat $(UNIT_2_OUTPUT); fi; \
	exit $$status

unit-3:
	@echo "== Unit tests on Airflow $(AIRFLOW)"
	@COVERAGE_FILE=.coverage.airflow-3 $(VENV)/bin/python -m pytest -m "not airflow_run" \
		$(PARALLEL) $(COVERAGE_ARGS) $(PYTEST_ARGS)

unit-2:
	@mkdir -p $(dir $(UNIT_2_OUTPUT))
	@echo "== Unit tests on Airflow $(AIRFLOW_2)" >$(UNIT_2_OUTPUT)
	@COVERAGE_FILE=.coverage.airflow-2 $(VENV_2)/bin/python -m pytest -m "not airflow_run" \
		-o cache_dir=.pytest_cache/airflow-2 $(PARALLEL) $(COVERAGE_ARGS) $(PYTEST_ARGS) >>$(UNIT_2_OUTPUT) 2>&1

test: environment environment-2 chromium services ## run all tests, on both Airflow versions
	@status=0; python_2=; \
	if $(PYTHON) -c '$(SUPPORTS_2)'; then python_2="$(CURDIR)/$(VENV_2)/bin/python"; fi; \
	export AIRFLOW_2_11_PYTHON="$$python_2"; \
	if [ "$(if $(PYTEST_ARGS),selected)" ]; then \
		if [ "$$python_2" ]; then "$$python_2" -m pytest -m "not airflow_run" $(PYTEST_ARGS) || status=$$?; fi; \
		$(VENV)/bin/python -m pytest $(PYTEST_ARGS) || status=$$?; \
	else \
		$(MAKE) --no-print-directory unit COVERAGE=1 || status=$$?; \
		$(VENV)/bin/coverage combine --quiet || status=$$?; \
		echo "== System tests, on both Airflow versions"; \
		$(VENV)/bin/python -m pytest -m airflow_run --durations 20 --cov --cov-append || status=$$?; \
	fi; \
	exit $$status

screenshots: environment chromium ## retake the screenshots of the README
	@SCREENSHOTS=1 $(VENV)/bin/python -m pytest tests/system/browser -k airflow-3 $(PYTEST_ARGS)

# For the browser tests. If this fails, they report what is missing.
chromium:
	@if ! command -v chromium >/dev/null && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		echo "Installing Chromium for the browser tests"; \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends \
			-o DPkg::Lock::Timeout=300 chromium >/dev/null || echo "Could not install Chromium."; \
	fi

matrix: environment ## run all tests on all supported Airflow and Python versions, and with the lowest dependencies (hours)
	@$(VENV)/bin/nox -s tests lowest wheel docs -- $(PYTEST_ARGS)

cluster: environment services ## run a cluster with PostgreSQL, Redis and CeleryExecutor, and kill its parts
	@$(VENV)/bin/python scripts/cluster.py $(CLUSTER_ARGS)

cluster-2: environment-2 services ## the same with Airflow 2.11
	@$(VENV)/bin/python scripts/cluster.py $(VENV_2)/bin/python $(CLUSTER_ARGS)

# For the cluster. If this fails, it reports what is missing.
services:
	@if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && \
		! { command -v redis-server && ls /usr/lib/postgresql/*/bin/initdb; } >/dev/null 2>&1; then \
		echo "Installing PostgreSQL and Redis for the cluster"; \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends \
			-o DPkg::Lock::Timeout=300 postgresql redis-server >/dev/null || echo "Could not install them."; \
	fi

chaos: environment environment-2 ## kill workers during creates and syncs, lose responses, and count the records
	@python_2=; if $(PYTHON) -c '$(SUPPORTS_2)'; then python_2="$(VENV_2)/bin/python"; fi; \
	$(VENV)/bin/python scripts/chaos.py $(CHAOS_ARGS) $(VENV)/bin/python $$python_2

bench-waits: environment environment-2 ## benchmark a thousand deferred waits against the HTTP provider
	@python_2=; if $(PYTHON) -c '$(SUPPORTS_2)'; then python_2="$(VENV_2)/bin/python"; fi; \
	$(VENV)/bin/python benchmarks/waits.py $(VENV)/bin/python $$python_2 $(BENCH_ARGS)

bench: environment environment-2 ## run all benchmarks against the HTTP provider (an hour or two)
	@$(VENV)/bin/python benchmarks/calls.py
	@$(VENV)/bin/python benchmarks/imports.py
	@$(VENV)/bin/python benchmarks/sync.py
	@$(VENV)/bin/python benchmarks/changes.py
	@$(MAKE) --no-print-directory bench-waits
	@$(MAKE) --no-print-directory chaos CHAOS_ARGS='--kills 26 --pairs 4 --lost 20 --syncs 4'

check: environment docs ## check lint, format, spelling, types and the documentation
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/codespell
	@$(VENV)/bin/mypy
	@$(VENV)/bin/basedpyright
	@echo "All checks passed."

docs: environment ## build the documentation into build/docs; warnings are errors
	@$(VENV)/bin/python -m sphinx -W --keep-going -q docs build/docs

# An Airflow breaks on packages that are much newer than itself, so each gets those of its own time, but none older than
# the first usable common-compat. The ObjectStoragePath of Airflow 3.0 takes no URLs with universal-pathlib 0.3. "lowest"
# has the oldest releases that pyproject.toml allows.
constraints: ## update the pinned versions in constraints/ from pyproject.toml (needs uv)
	@compile() { \
		$(UV) pip compile --quiet --upgrade --universal --python-version 3.10 --no-annotate --no-header \
			--no-emit-index-url --no-emit-find-links --extra parquet --extra sandbox pyproject.toml "$$@"; \
	}; \
	airflow() { \
		printf '%s\n' "apache-airflow==$$1" $$3 | compile - --group dev --output-file "constraints/airflow-$$1.txt" $$2; \
	}; \
	lowest=$$(mktemp) && trap 'rm -f "$$lowest"' EXIT && \
	airflow 3.3.2 && \
	airflow 3.2.2 "--exclude-newer 2026-06-01" && \
	airflow 3.1.8 "--exclude-newer 2026-04-01" && \
	airflow 3.0.6 "--exclude-newer 2026-02-01" "universal-pathlib<0.3" && \
	airflow 2.11.2 "--exclude-newer 2026-04-01" && \
	compile --resolution lowest-direct --exclude-newer 2026-02-01 >"$$lowest" && \
	compile --group test --constraint "$$lowest" --exclude-newer 2026-02-01 --output-file constraints/lowest.txt

clean: ## remove the virtual environments and all generated files
	rm -rf $(VENV) $(VENV_2) .airflow .coverage htmlcov .hypothesis .mypy_cache .nox .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

python:
	@$(PYTHON) -c 'import sys; sys.exit("$(PYTHON) is Python %d.%d, but 3.10 or newer is needed. Choose another with PYTHON=..." % sys.version_info[:2] if sys.version_info < (3, 10) else 0)'

environment: python
	@$(PYTHON) scripts/make_environment.py $(VENV) $(AIRFLOW)

SUPPORTS_2 := import sys; sys.exit(sys.version_info >= (3, 13))
SKIPPED_2 := == Skipping the tests on Airflow $(AIRFLOW_2): it supports Python 3.10 to 3.12, and $(PYTHON) is newer.

environment-2: environment
	@if $(PYTHON) -c '$(SUPPORTS_2)'; then $(PYTHON) scripts/make_environment.py $(VENV_2) $(AIRFLOW_2); fi
