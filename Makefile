.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV := $(shell command -v uv || echo .uv/bin/uv)
RUN := $(UV) run --no-sync
IMAGES := offers-serving:serving offers-pipeline-python:components offers-drift:serving/drift
COMMIT = $(shell $(RUN) python -c 'from offers.lineage import git_commit; print(git_commit())')

.PHONY: help setup demo serve test test-fast lint images up deploy status down bench clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

.uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Offers needs Python 3.11; this is " + sys.version.split()[0] + ". Name another with: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv==0.13.8

.venv/.installed: pyproject.toml uv.lock | $(filter .uv/bin/uv,$(UV))
	$(UV) sync --locked --quiet --python $(PYTHON)
	@touch $@

# Alibi Detect and KServe can't share an environment.
.venv-drift/.installed: serving/drift/pyproject.toml serving/drift/uv.lock | .venv/.installed
	UV_PROJECT_ENVIRONMENT=$(CURDIR)/.venv-drift $(UV) sync --project serving/drift --locked --quiet --python $(PYTHON)
	@touch $@

setup: .venv/.installed .venv-drift/.installed ## Install the locked environments into .venv and .venv-drift

demo: setup ## Train on real bank contacts (simulated where there is no network), rank, see drift, train again
	$(RUN) offers demo

serve: setup ## Serve the newest bundle on loopback, with the drift sidecar, until Ctrl-C
	$(RUN) offers serve

test: setup ## Run every test, the slow ones included
	$(RUN) pytest

test-fast: setup ## Run the tests that take seconds
	$(RUN) pytest -m "not slow"

lint: setup ## Check style, types and the arrows between the rooms
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) lint-imports

images: setup ## Build the images, tagged by commit, and print their sizes
	@commit=$(COMMIT); for image in $(IMAGES); do \
	  docker build $(if $(PIP_INDEX_URL),--build-arg PIP_INDEX_URL) --build-arg GIT_COMMIT=$$commit \
	    --file $${image#*:}/Dockerfile --tag $${image%%:*}:$$commit . || exit 1; done; \
	docker image ls --format '{{.Repository}}:{{.Tag}}  {{.Size}}' | grep ":$$commit "

up: ## Make a kind cluster with Kubeflow Pipelines and KServe
	manifests/cluster.sh up

deploy: setup ## Load the images into the cluster and apply overlays/kind
	manifests/cluster.sh deploy $(COMMIT)

status: ## Show what runs on the cluster
	manifests/cluster.sh status

down: ## Delete the cluster
	manifests/cluster.sh down

bench: setup ## Measure speed and memory beside their floors, print a table of medians
	$(RUN) python -m tests.bench

clean: ## Remove the environment and everything that runs have left
	rm -rf .venv .venv-drift .uv .offers
