# Every target sets up what it needs: git, make and python3 (3.11 or newer, with venv and pip) are enough to start.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
ENGINE ?= docker
# Tests wait for processes and clocks more than they compute.
WORKERS ?= $(shell expr 2 \* $$(getconf _NPROCESSORS_ONLN))
PROTOS := $(wildcard bench_agent/protocol/*.proto)

# The tests start some hundred processes from the same source: whoever forbids Python to keep what it compiled makes each
# compile it all again, and every worker rewrite all asserts.
unexport PYTHONDONTWRITEBYTECODE

# schemathesis gives all its tests one name; handed out file by file, xdist would run one of them and pass the others.
FUZZ := tests/unit/labd/test_labd_api_fuzz.py

.PHONY: help setup tools demo test test-most test-fuzz test-kubernetes test-images test-vcan explore bench chaos lint proto client docs lock clean

help: ## what the targets do
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

$(VENV)/ready: requirements-dev.lock pyproject.toml
	@echo "setting up $(VENV) (once; takes a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

setup: $(VENV)/ready ## the virtual environment with labd, labctl and bench-agent in it

tools: $(VENV)/ready ## helm, kubectl and a checker of Flux for the tests, in build/tools
	@$(BIN)/python -m deploy.tools

demo: $(VENV)/ready ## labd, an agent with two simulated benches and the example scenarios, from nothing
	@exec $(BIN)/python -m deploy.demo

# The tests on SocketCAN take one CPU and wait for real time: those of the API have what they leave.
test: $(VENV)/ready ## every test that can run on this machine
	@$(MAKE) test-most
	@$(MAKE) --jobs=2 --output-sync=target test-vcan test-fuzz

# Where these tools cannot be had, the tests that need them are skipped, or fail if LABD_REQUIRE_TOOLS is set.
test-most: $(VENV)/ready ## the tests that need neither a kernel of their own nor minutes of random requests
	-@$(BIN)/python -m deploy.tools
	$(BIN)/python -m tests.alone --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --ignore $(FUZZ)

test-fuzz: $(VENV)/ready ## only random requests to every operation of the API
	nice -n 19 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist load $(FUZZ)

test-kubernetes: $(VENV)/ready tools ## only the tests on Kubernetes: on the cluster of KUBECONFIG when it is set, else on a fake API server
	LABD_TEST_KUBECONFIG="$$KUBECONFIG" $(BIN)/python -m pytest tests/kubernetes

test-images: $(VENV)/ready ## the images of deploy/Dockerfile, built and run by ENGINE (docker or podman, on Linux)
	for role in daemon agent runner; do \
		$(ENGINE) build --target $$role --tag labd-test/$$role --file deploy/Dockerfile . || exit 1; done
	LABD_TEST_ENGINE="$(ENGINE)" $(BIN)/python -m pytest tests/images

test-vcan: $(VENV)/ready ## only the tests on real SocketCAN
	tests/vcan/run

explore: $(VENV)/ready ## the unit tests with new examples, to find what breaks a promise
	LABD_HYPOTHESIS=explore $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile tests/unit

bench: $(VENV)/ready ## the figures, each beside its baseline; writes build/bench.json
	$(BIN)/python -m tests.benchmarks

chaos: $(VENV)/ready ## a lab under load, hurt for an hour; writes docs/reference/reliability.md
	$(BIN)/python -m tests.chaos

lint: $(VENV)/ready ## ruff, mypy, the layers of the house, stale generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest -q tests/unit/test_proto_fresh.py

proto: $(VENV)/ready ## generate the gRPC code
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I. --python_out=. --grpc_python_out=. \
		--mypy_out=quiet:. --mypy_grpc_out=quiet:. $(PROTOS)

client: $(VENV)/ready ## write the methods of the asynchronous client
	$(BIN)/python -m labd.client.mirror

docs: $(VENV)/ready ## the documentation as HTML in build/docs
	$(BIN)/sphinx-build --quiet -W --keep-going -b html docs build/docs

lock: ## refresh the lock files (needs uv)
	uv pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.11 --upgrade \
		--custom-compile-command "make lock" --quiet pyproject.toml --extra otel -o requirements.lock
	uv pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.11 --upgrade \
		--custom-compile-command "make lock" --quiet pyproject.toml --extra dev -o requirements-dev.lock
	echo hatchling | uv pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.11 --upgrade \
		--custom-compile-command "make lock" --quiet -o requirements-build.lock -

clean: ## remove everything that make made
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache .hypothesis
