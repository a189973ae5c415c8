# `make run` and `make test` do all the set-up themselves. `make help` lists the rest.
SHELL := /bin/bash
BIN := .venv/bin
OUTPUT ?= runs/laptop
ARGS ?=
TEST_JOBS ?= 2
SERVICES := radosgw ceph-mon ceph-osd openssl postgresql
PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,python3)

.PHONY: help setup run run-containers services test test-containers lint images manifests tiny-model bench-learning study study-quick bench-training bench-gpu clean

help:  ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup:  ## Make the environment in .venv (done once; a second call does nothing)
	@.ci/setup

run: setup  ## Run the whole pipeline on this machine (preset laptop); the same command continues a stopped run
	@$(BIN)/deepvideo run --preset laptop --output $(OUTPUT)

run-containers: setup  ## The same in containers of our images, with a real S3 server and MLflow on PostgreSQL, checked
	@.ci/setup $(SERVICES) podman
	@$(BIN)/deepvideo services -- $(SHELL) -c '$(BIN)/deepvideo run --containers --output runs/containers $(ARGS) && \
	  $(BIN)/python -m pipelines.containers.check runs/containers'

services: setup  ## Serve what runs in containers left, S3 and MLflow, until Ctrl-C
	@.ci/setup $(SERVICES)
	@$(BIN)/deepvideo services

test-containers: setup  ## In containers: a recurring run twice, compare, rollback; a run through which S3 and MLflow are killed
	@.ci/setup $(SERVICES) podman
	@$(BIN)/deepvideo services -- $(BIN)/python -m tests.containers.retrain
	@$(BIN)/python -m tests.containers.outage

test: lint  ## Check style and types, and run every test
	@.ci/setup chromium ffmpeg $(SERVICES)
	@$(BIN)/python -m pytest tests --numprocesses $(TEST_JOBS) --dist loadfile --no-loadscope-reorder

lint: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

images:  ## Build the container images, for GPUs and for CPUs alone, with podman or docker (docker/README.md)
	@docker/build.sh

manifests: setup  ## Render the Kubernetes manifests of every overlay and check them; CRDS=folder: by your cluster's CRDs too
	@$(BIN)/python -m k8s.check $(if $(CRDS),--crds $(CRDS))

tiny-model: setup  ## Train the committed tiny Qwen2.5-VL again from scratch
	@$(BIN)/python -m components.ingest.tiny_model.train

bench-learning: setup  ## Three seeds and a control of the laptop preset: does the model learn? (about 25 minutes)
	@$(BIN)/python tests/benchmarks/learning.py --output runs/learning --jobs 2

study: setup  ## The paper's comparison on Moving Shapes: tables, plots, page (2.5 hours on 2 cores; goes on where it was)
	@$(BIN)/python -m tests.benchmarks.study

study-quick: setup  ## The same with fewer arms, seeds, questions and responses (below 10 minutes on 2 cores)
	@$(BIN)/python -m tests.benchmarks.study --quick

bench-training: setup  ## Packed training against one row a response and TRL, on this CPU (up to 40 minutes; ARGS=--quick)
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet -c docker/constraints.txt -e ".[bench]"
	@$(BIN)/python -m tests.benchmarks.training_speed $(ARGS)

bench-gpu:  ## Packed training of Qwen2.5-VL-3B and 7B shapes on one GPU (up to 8 minutes; any Python with torch, transformers)
	@$(PYTHON) -m tests.benchmarks.training_gpu $(ARGS)

clean:  ## Remove the environment and all runs
	rm -rf .venv runs
