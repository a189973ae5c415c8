# `make run` and `make test` do all the set-up themselves. `make help` lists the rest.
SHELL := /bin/bash
BIN := .venv/bin
OUTPUT ?= runs/laptop

.PHONY: help setup run test lint images manifests tiny-model bench-learning clean

help:  ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup:  ## Make the environment in .venv (done once; a second call does nothing)
	@.ci/setup

run: setup  ## Run the whole pipeline on this machine (preset laptop); the same command continues a stopped run
	@$(BIN)/deepvideo run --preset laptop --output $(OUTPUT)

test: lint  ## Check style and types, and run every test
	@.ci/setup chromium
	@$(BIN)/python -m pytest tests

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

clean:  ## Remove the environment and all runs
	rm -rf .venv runs
