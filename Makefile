.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV := $(shell command -v uv || echo .uv/bin/uv)
RUN := $(UV) run --no-sync
# Steps and services are processes: without compiled libraries each takes twice as long to start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo night learn market serve app test test-fast nightly fuzz lint docs images up platform deploy status rollback down e2e bench ui feast spark clean

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Offers needs Python 3.11; this is " + sys.version.split()[0] + ". Name another with: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv==0.13.8

# Extras that the images do without and that a laptop has room for.
.venv/.installed: pyproject.toml uv.lock | $(filter .uv/bin/uv,$(UV))
	$(UV) sync --locked --quiet --python $(PYTHON) --extra app --extra market
	@touch $@

# Alibi Detect and KServe can't share an environment.
.venv-drift/.installed: serving/drift/pyproject.toml serving/drift/uv.lock | .venv/.installed
	UV_PROJECT_ENVIRONMENT=$(CURDIR)/.venv-drift $(UV) sync --project serving/drift --locked --quiet --python $(PYTHON)
	@touch $@

setup: .venv/.installed .venv-drift/.installed ## Install the locked environments; EXTRA=postgresql, sqlserver or catboost adds one
	$(if $(EXTRA),$(UV) sync --locked --quiet --inexact --extra $(EXTRA))

demo: setup ## Train on real bank contacts (simulated where there is no network), rank, see drift, train again, update
	$(RUN) offers demo

night: setup ## Score 100 000 simulated customers, allocate a week's calls, print value, bound and prices
	$(RUN) offers night

learn: setup ## Log decisions, post outcomes, judge a candidate before and in an experiment, erase a customer
	$(RUN) offers learn

market: setup ## Simulate a market of 20 000 users, train, recommend by id, take a click, see preferences change
	$(RUN) offers market demo

serve: setup ## Serve the newest bundle on loopback, with the drift sidecar, until Ctrl-C
	$(RUN) offers serve

app: setup ## Show pages at http://127.0.0.1:8501: what is offered to a customer and why; releases, cards, approvals
	$(RUN) offers app

test: setup ## Run the tests, the slow ones included
	$(RUN) pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not nightly"

test-nightly: setup ## Run the tests that prove over hundreds of worlds what the others try on few
	$(RUN) pytest -n 2 --dist loadfile --no-loadscope-reorder -m nightly

FUZZ ?= 1000000
fuzz: setup ## Send broken requests to predictor and ranker; FUZZ=50000 says how many
	OFFERS_FUZZ=$(FUZZ) $(RUN) pytest tests/serving/test_mutations.py

test-fast: setup ## Run the tests that take seconds
	$(RUN) pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not nightly"

lint: setup ## Check style, types and the arrows between the rooms
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) lint-imports
	$(RUN) shellcheck -x manifests/*.sh .ci/run

# What builds the site needs nothing of what it describes: docstrings are read, not imported.
.venv-docs/.installed: pyproject.toml uv.lock | $(filter .uv/bin/uv,$(UV))
	UV_PROJECT_ENVIRONMENT=$(CURDIR)/.venv-docs $(UV) sync --only-group docs --locked --quiet --python $(PYTHON)
	@touch $@

docs: .venv-docs/.installed ## Build the documentation into build/site; a broken link or name fails it
	.venv-docs/bin/zensical build --clean --strict

.venv-ui/.installed: serving/ui/pyproject.toml serving/ui/uv.lock | .venv/.installed
	UV_PROJECT_ENVIRONMENT=$(CURDIR)/.venv-ui $(UV) sync --project serving/ui --locked --quiet --python $(PYTHON)
	@touch $@

# Spark, which only some need and which is large, beside what it runs.
.venv-spark/.installed: pyproject.toml uv.lock | .venv/.installed
	UV_PROJECT_ENVIRONMENT=$(CURDIR)/.venv-spark $(UV) sync --locked --quiet --no-dev --extra spark --python $(PYTHON)
	@touch $@

spark: .venv-spark/.installed ## Install Spark, for offers score --spark; it needs Java 17 or newer

# Feast, beside what it serves: it asks for another prometheus-client than KServe.
.venv-feast/.installed: serving/feast/pyproject.toml serving/feast/uv.lock | .venv/.installed
	UV_PROJECT_ENVIRONMENT=$(CURDIR)/.venv-feast $(UV) sync --project serving/feast --locked --quiet --python $(PYTHON)
	@touch $@

feast: .venv-feast/.installed ## Install Feast, which serves what offers market feast writes

# The whole of MLflow in an environment of its own; the database is made by the command that writes it, under its lock.
UI_PORT ?= 5000
OFFERS_HOME ?= .offers
ui: setup .venv-ui/.installed ## Show runs, versions and champions in MLflow at http://127.0.0.1:5000; UI_PORT names another
	$(RUN) offers model sync
	@# MLflow's own first page is that of language models, where a dialog hides the experiments.
	@echo "Runs of the first contract: http://127.0.0.1:$(UI_PORT)/#/experiments/1/runs?workflowType=machine_learning"
	MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
	  .venv-ui/bin/mlflow server --host 127.0.0.1 --port $(UI_PORT) --workers 1 \
	  --backend-store-uri sqlite:///$(abspath $(OFFERS_HOME))/mlflow/mlflow.db

images: ## Build the images, tagged by commit, and print their sizes
	manifests/cluster.sh images

up: ## Make a kind cluster with the platform and Offers on it; OFFERS_CLUSTER names one that is there
	manifests/cluster.sh up

platform: ## Install cert-manager, KServe and Kubeflow Pipelines on the cluster
	manifests/cluster.sh platform

deploy: setup ## Put this commit on the cluster, serve what the ledger says, train the first release, ask for offers
	manifests/cluster.sh deploy

status: setup ## Say what is well on the cluster, and what to do where it is not
	manifests/cluster.sh status

rollback: setup ## Serve the release before the present one again, wherever kubectl reaches
	manifests/cluster.sh rollback

down: ## Delete the kind cluster and all that is in it
	manifests/cluster.sh down

e2e: setup ## Prove all of it on the cluster that kubectl points at
	$(RUN) pytest tests/e2e

bench: setup ## Measure speed and memory beside their floors, print a table of medians
	$(RUN) python -m benchmarks

clean: ## Remove the environment and everything that runs have left
	rm -rf .venv .venv-drift .venv-docs .venv-ui .venv-feast .venv-spark .uv .offers build/site
