# Every target first makes .venv from requirements.lock, unless it is up to date.
.DEFAULT_GOAL := help
.PHONY: help setup demo docs sessions test test-all torture mutants check bench lock licences audit clean

BIN := .venv/bin
# Modules that ./setup.sh did not compile to bytecode are compiled when first imported.
export PYTHONDONTWRITEBYTECODE :=
# These need videos as arguments; their docstrings have the commands.
BENCH_WITH_ARGUMENTS := bench/approximate.py bench/confidence.py bench/moments.py

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install the pinned requirements into .venv
	@./setup.sh

demo: setup ## learn from narrated videos, find moments, and write demo/report.html, in minutes
	@$(BIN)/videoclip demo

docs: setup ## build the documentation site into site/index.html; installs its requirements
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --require-hashes --no-build -r requirements-docs.lock
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

sessions: setup ## run the commands that docs/ shows, and write their output there
	@$(BIN)/python -m tools.sessions

test: setup ## the fast tests, those in a browser where there is a Chromium; COVERAGE=1: fails below 95 % coverage
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --fast $(if $(COVERAGE),--cov --cov-fail-under=95)

test-all: setup docs ## every test this machine can run, and the site; installs LanceDB, an S3 server, Ray and peers for them
	@# --project /: exclude-dependencies in pyproject.toml is for the other locks, not for peers.
	@$(BIN)/uv pip install -q --project / --python $(BIN)/python --no-deps --require-hashes --no-build -r requirements-stores.lock -r requirements-peers.lock
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --hypothesis-profile=explore

torture: setup ## send hostile files through the commands; writes the table of docs/reliability.md; TORTURE="--seed 1"
	@$(BIN)/python -m tests.torture --docs $(TORTURE)

mutants: setup ## change the pure modules in small ways, and list the changes that no test notices
	@OMP_NUM_THREADS=1 nice -n 10 $(BIN)/python -m tools.mutants $(MUTANTS)

check: setup ## style, types and import layers
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: setup ## measure speed and memory side by side; writes bench/results/*.json
	@for script in $(filter-out $(BENCH_WITH_ARGUMENTS),$(wildcard bench/*.py)); do echo "== $$script"; PYTHONPATH=. $(BIN)/python $$script || exit 1; done

lock: setup ## resolve the requirements again, with hashes; LOCK=--upgrade for the newest versions
	@$(BIN)/python -m tools.lock $(LOCK)

licences: setup ## write the table of docs/licences.md; `make test-all` installs all packages it reads
	@$(BIN)/python -m tools.licences

audit: setup ## look up known security holes of all pinned packages
	@for lock in requirements*.lock; do $(BIN)/uv tool run pip-audit --strict --no-deps --disable-pip -r $$lock || exit 1; done

clean: ## remove .venv, caches and the demo
	@rm -rf .venv site .mypy_cache .ruff_cache .pytest_cache .hypothesis demo bench/results mutants
