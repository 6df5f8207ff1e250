# Every target installs what it needs first. `make help` lists them.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FUZZ_STAMP := $(VENV)/.installed-fuzz
TESTS ?=
FUZZ_SECONDS ?= 600
BENCH ?=
CHAOS ?=

.DEFAULT_GOAL := help
.PHONY: help demo stack stack-down test-stack test test-fast test-slow test-canary lint fmt fuzz bench bench-bars bench-telemetry bench-resilience demo-resilience chaos docs lock venv clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## Watch a file cross a post-quantum tunnel between two nodes (no root needed)
	@$(BIN)/python -m lab.demo

demo-resilience: $(STAMP) ## Watch a tunnel carry on while its processes are killed (no root needed)
	@$(BIN)/python -m lab.demo_resilience

test: $(STAMP) ## Run the default test suite; TESTS="..." goes to pytest
	@scripts/packages.sh ip ping nft tcpdump iperf3
	@scripts/bugsink.sh
ifeq ($(strip $(TESTS)),)
	$(BIN)/python -m pytest -m "not slow and not netns and not stack" -n auto --dist loadfile
	$(BIN)/python -m pytest -m "not slow and netns and not stack" -n 2 --dist loadfile
else
	$(BIN)/python -m pytest -m "not slow" $(TESTS)
endif

test-fast: $(STAMP) ## Run the tests that need neither namespaces nor patience
	$(BIN)/python -m pytest -m "not slow and not netns and not stack" -n auto $(TESTS)

test-slow: $(STAMP) ## Run the long tests: thousands of simulated networks, every fault of the chaos table once, every function raising
	@scripts/packages.sh ip ping nft tcpdump iperf3
	$(BIN)/python -m pytest -m slow $(TESTS)

test-canary: $(STAMP) ## Search every byte of every sink for every secret of real nodes
	@scripts/packages.sh ip ping
	$(BIN)/python -m pytest tests/canary $(TESTS)

lint: $(STAMP) ## Check style, types and the layers of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(STAMP) ## Format the code and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

stack: $(STAMP) ## Run the real telemetry stack around two nodes and show some faults; ends by make stack-down
	@scripts/packages.sh ip ping
	@scripts/stack.sh
	@$(BIN)/python -m lab.stack up

stack-down: ## End what make stack started
	@$(BIN)/python -m lab.stack down

test-stack: $(STAMP) ## Run the tests with the real collector, Jaeger, Prometheus, Alertmanager and crash server
	@scripts/packages.sh ip ping nft
	@scripts/stack.sh
	$(BIN)/python -m pytest tests/stack -n 2 --dist loadfile $(TESTS)

fuzz: $(FUZZ_STAMP) ## Fuzz every parser; FUZZ_SECONDS=600 for each
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

bench: $(STAMP) ## Measure side by side with other VPNs; BENCH="--rounds 5 ..."
	@scripts/packages.sh ip ping iperf3 openvpn openssl wg go
	$(BIN)/python -m bench $(BENCH)

bench-bars: $(STAMP) ## Measure, and fail naming the figures that miss their bar
	@scripts/packages.sh ip ping iperf3 openvpn openssl wg go
	$(BIN)/python -m bench --bars $(BENCH)

bench-telemetry: $(STAMP) ## Measure what telemetry costs the data path; fails when a bar is missed
	@scripts/packages.sh ip iperf3
	$(BIN)/python -m bench.telemetry $(BENCH)

bench-resilience: $(STAMP) ## Kill every process under TCP at full rate; fails when a bar is missed
	@scripts/packages.sh ip
	$(BIN)/python -m bench.resilience $(BENCH)

chaos: $(STAMP) ## Every fault at random, with what must hold after each; CHAOS="--seed 7 --for 2h"
	@scripts/packages.sh ip
	@$(BIN)/python -m lab.chaos $(CHAOS)

docs: $(STAMP) ## Write the generated pages of docs/ anew
	$(BIN)/python -m pqvpn.cli.docs docs

lock: ## Write requirements/*.txt anew from pyproject.toml; LOCK=--upgrade for new versions
	scripts/lock.sh $(LOCK)

venv: $(STAMP) ## Make the virtual environment from the locked packages

$(STAMP): requirements/dev.txt pyproject.toml scripts/venv.sh
	@scripts/venv.sh $(VENV) requirements/dev.txt
	@touch $@

$(FUZZ_STAMP): requirements/fuzz.txt $(STAMP)
	@scripts/venv.sh $(VENV) requirements/fuzz.txt
	@touch $@

clean: ## Remove the environment, caches and results
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf bench/results/*.json bench/results/*.svg
