# From a fresh checkout: `make demo` or `make test`. Needs Python 3.11 or newer, make and pip; no root.

PY := .venv/bin/python
PIP_FLAGS := -q --disable-pip-version-check
# Some containers forbid bytecode. Then each process that a test starts would compile this package again, and each
# run of pytest all tests.
export PYTHONDONTWRITEBYTECODE :=
# Versions are exact in package.json. Peers are named there, too: npm would fetch half a gigabyte of them.
NPM_INSTALL := npm install --silent --no-package-lock --no-audit --no-fund --omit=peer --omit=optional
# What is compared with LangChain's and LangGraph's own: in one process, and across Temporal.
DIFFERENTIAL := tests/differential \
    $(patsubst %,tests/integration/test_%.py,messages protocol_events run_object standard_events stream_modes)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-quick providers providers-quick docs docs-test faults fuzz first-steps conformance clients clients-newest
.PHONY: peers check lowest newest bench leak viewers many frameworks clean

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## */  make \1\t/p' Makefile

demo: .venv/.installed  ## Stream a graph's tokens through Temporal and Redis, in this terminal
	@$(PY) -m examples.demo

.PHONY: live-page
live-page: .venv/.installed  ## Try the live page in a real Chromium: with 10,000 items, and over HTTP/2 of three servers
	@TTI_TEST_LIVE_ITEMS=10000 TTI_TEST_HTTP_2="hypercorn granian nginx" $(PY) -m pytest -n 0 -s \
	    tests/browser/test_live_page_limits.py tests/browser/test_http_2.py

.PHONY: demo-web
demo-web: .venv/.installed  ## The same in a browser, until Ctrl-C: prints the address, and opens it where it can
	@$(PY) -m examples.demo --web

# Four at a time on two cores, because many tests wait for a time-out or a server. Folders in their order: the long
# files first and the unit tests last, so that no core is idle at the end.
test: .venv/.installed  ## Run the tests against a real Temporal and a real Redis
	@$(PY) -m pytest -n 4 --dist loadfile --no-loadscope-reorder --hypothesis-profile=full

test-quick: .venv/.installed  ## Run the tests that need no server, with fewer generated examples: half a minute
	@$(PY) -m pytest -n 2 tests/unit tests/contract

providers: .venv-providers/.installed  ## Run real packages of providers against a server on loopback, in .venv-providers
	@.venv-providers/bin/python -m pytest -n 0 tests/providers

providers-quick: .venv-providers-quick/.installed  ## The same for OpenAI and Anthropic alone, in .venv-providers-quick
	@TTI_PROVIDERS=quick .venv-providers-quick/bin/python -m pytest -n 0 tests/providers

clients: .venv/.installed build/clients/.installed build/typescript/.built  ## Feed streams to the real npm packages of the gateway's formats; needs node and npm
	@$(PY) -m pytest -n 0 -s tests/clients

clients-newest: .venv/.installed  ## The same with the newest release of every package, in build/clients-newest
	@mkdir -p build/clients-newest
	@$(PY) -m tests.clients.newest > build/clients-newest/package.json
	@cd build/clients-newest && $(NPM_INSTALL)
	@TTI_CLIENTS=build/clients-newest $(PY) -m pytest -n 0 -s tests/clients

peers: .venv-peers/.installed  ## Run the suites of LangChain and LangGraph under capture, in .venv-peers: half an hour
	@.venv-peers/bin/python -m tests.peers

# ResourceWarning: Gradio leaves a socket and a loop to the garbage collector.
frameworks: .venv-frameworks/.installed  ## Run the examples without asyncio by Django, Flask, Streamlit and Gradio
	@.venv-frameworks/bin/python -m pytest -n 0 -W ignore::ResourceWarning tests/frameworks

docs: .venv/.installed  ## Build the pages as a site in build/site; a broken link is an error
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

docs-test: .venv/.installed  ## Run every snippet of the pages, follow every link; `make test` does it, too
	@$(PY) -m pytest tests/docs

faults: .venv/.installed  ## Inject every fault 30 times on real servers, and print a table
	@$(PY) -m tests.faults

fuzz: .venv/.installed  ## Give a million changed entries, cursors, results and heartbeats to the reader: no foreign exception
	@$(PY) -m tests.fuzz

conformance: .venv/.installed build/typescript/.built  ## Run the protocol's conformance suite against all readers, and break each rule of ours; needs node and npm
	@$(PY) -m tests.support.conformance_table
	@$(PY) -m tests.contract.reader_mutants

check: .venv/.installed  ## Lint, formatting, types, folder rules, workflows
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@$(PY) -m mypy
	@$(PY) -m pyright
	@.venv/bin/lint-imports --no-logo
	@$(PY) -m tests.support.type_completeness
	@.venv/bin/actionlint
	@.venv/bin/zizmor --offline --quiet .github
	@.venv/bin/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml

# The two need packages of their own, so each has its own environment. uv is quick, and it can choose the oldest.
lowest: .venv/.installed  ## Run unit and contract tests with the oldest allowed dependencies, in .venv-lowest
	@$(PY) -m uv venv -q --clear --python $(PY) .venv-lowest
	@$(PY) -m uv pip install -q --python .venv-lowest --resolution lowest-direct -e '.[test]'
	@.venv-lowest/bin/python -m pytest tests/unit tests/contract

newest: .venv/.installed  ## Run unit, contract, docs and differential tests with the newest of everything, in .venv-newest
	@$(PY) -m uv venv -q --clear --python $(PY) .venv-newest
	@$(PY) -m uv pip install -q --python .venv-newest -e '.[dev]'
	@.venv-newest/bin/python -m pytest -n 2 --dist loadfile tests/unit tests/contract tests/docs $(DIFFERENTIAL)

bench: .venv/.installed  ## Measure the budgets
	@$(PY) -m benchmarks

.PHONY: bench-quick
bench-quick: .venv/.installed  ## Measure what a change of the road shows in first, in two minutes
	@$(PY) -m benchmarks --quick

.PHONY: bench-growth
bench-growth: .venv/.installed  ## Measure that nothing grows: 100,000 tokens of a run, 1,000 runs, 1,000 readers, in five minutes
	@$(PY) -m benchmarks --long

first-steps: .venv/.installed  ## Time README's first steps: from pip in a fresh environment to the first token
	@$(PY) -m tests.support.first_steps

leak: .venv/.installed  ## Show that nothing grows: 10,000 model calls in one process
	@TTI_TEST_LEAK_CALLS=10000 $(PY) -m pytest -s tests/unit/test_nothing_grows.py

many: .venv/.installed  ## Follow a hundred workflows in one stream, cut and resumed 20 times
	@TTI_TEST_MANY=100 $(PY) -m pytest -s tests/integration/test_many_workflows.py tests/integration/test_trees.py

viewers: .venv/.installed  ## Show that viewers get everything: 320 slow ones, 200 of a killed worker; and who never reads is left
	@TTI_TEST_SLOW_CLIENTS=320 TTI_TEST_KILLED_VIEWERS=200 TTI_TEST_ALL_SERVERS=1 $(PY) -m pytest -n 0 -s \
	    $(patsubst %,tests/integration/test_gateway_%.py,load killed_worker unread)

clean:  ## Remove the environment and every cache
	rm -rf .venv .venv-lowest .venv-newest .venv-providers .venv-providers-quick .venv-peers .venv-frameworks .peers .nox .hypothesis
	rm -rf .grimp_cache .mypy_cache .pytest_cache .ruff_cache build dist
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

# Without our pillow, which draws pictures for the documentation, and tomlkit: Gradio wants older ones.
.venv-frameworks/.installed: .venv/.installed
	@echo 'Installing Django, Flask, Streamlit and Gradio into .venv-frameworks; this happens once'
	@$(PY) -m uv venv -q --clear --python $(PY) .venv-frameworks
	@grep -v -e '^pillow==' -e '^tomlkit==' constraints.txt > .venv-frameworks/constraints.txt
	@$(PY) -m uv pip install -q --python .venv-frameworks -e '.[test,frameworks]' -c .venv-frameworks/constraints.txt
	@touch $@

# The extra of the same name. One with a rule of its own, above, takes that.
.venv-%/.installed: .venv/.installed
	@echo 'Installing the packages of the extra `$*` into .venv-$*; this happens once'
	@$(PY) -m uv venv -q --clear --python $(PY) .venv-$*
	@$(PY) -m uv pip install -q --python .venv-$* -e '.[test,$*]' -c constraints.txt
	@touch $@

# Optional packages stay: the compiler is one.
build/typescript/.built: clients/typescript/package.json clients/typescript/tsconfig.json clients/typescript/README.md \
    $(wildcard clients/typescript/src/*.ts) $(wildcard clients/typescript/tests/*.mjs) \
    temporal_token_interceptor/gateway/tti.js temporal_token_interceptor/gateway/tti.d.ts
	@command -v npm >/dev/null || { echo 'make: npm is not installed; install Node 20 or newer' >&2; exit 1; }
	@echo 'Building the TypeScript reader in build/typescript; its packages are installed once'
	@mkdir -p build/typescript
	@cp -R clients/typescript/. build/typescript/
	@cd build/typescript && npm install --silent --no-package-lock --no-audit --no-fund --omit=peer && npm run --silent build
	@touch $@

build/clients/.installed: tests/clients/package.json
	@command -v npm >/dev/null || { echo 'make: npm is not installed; install Node 20 or newer' >&2; exit 1; }
	@echo 'Installing the packages of web clients into build/clients; this happens once'
	@mkdir -p build/clients
	@cp tests/clients/package.json build/clients/
	@cd build/clients && $(NPM_INSTALL)
	@touch $@
