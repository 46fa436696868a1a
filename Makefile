# From a fresh checkout: `make demo` or `make test`. Needs Python 3.11 or newer, make and pip; no root.

PY := .venv/bin/python
PIP_FLAGS := -q --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test docs-test faults check bench leak clean

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## */  make \1\t/p' Makefile

demo: .venv/.installed  ## Stream a graph's tokens through Temporal and Redis, in this terminal
	@$(PY) -m examples.demo

test: .venv/.installed  ## Run the tests against a real Temporal and a real Redis
	@$(PY) -m pytest -n 2 --dist loadfile

docs-test: .venv/.installed  ## Run every snippet of the pages, follow every link; `make test` does it, too
	@$(PY) -m pytest tests/docs

faults: .venv/.installed  ## Inject every fault 30 times on real servers, and print a table
	@$(PY) -m tests.faults

check: .venv/.installed  ## Lint, formatting, types, and which folder may import which
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@$(PY) -m mypy
	@$(PY) -m pyright
	@.venv/bin/lint-imports --no-logo
	@$(PY) -m tests.support.type_completeness

bench: .venv/.installed  ## Measure the budgets
	@$(PY) -m benchmarks

leak: .venv/.installed  ## Show that nothing grows: 10,000 model calls in one process
	@TTI_TEST_LEAK_CALLS=10000 $(PY) -m pytest -s tests/unit/test_nothing_grows.py

clean:  ## Remove the environment and every cache
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last: an interrupted installation is taken up again by the next run.
# Candidates are run and not only looked up, because a version manager may leave a stub that does nothing.
.venv/.installed: pyproject.toml constraints.txt
	@for python in python3.11 python3; do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; \
	    python=; \
	done; \
	if [ -z "$$python" ]; then \
	    echo 'make: neither python3.11 nor python3 is Python 3.11 or newer; install one and run make again' >&2; \
	    exit 1; \
	fi; \
	echo "Installing into .venv with $$($$python --version); this happens once"; \
	$$python -m venv .venv
	@$(PY) -m pip install $(PIP_FLAGS) -e '.[dev]' -c constraints.txt
	@touch $@
