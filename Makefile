# Every command a person types, one line each; the work is in the scripts they call. No recipe decides anything.
.DEFAULT_GOAL := help
# Outside the clone, so that a fresh clone on a known machine compiles only what is new.
export CARGO_TARGET_DIR ?= $(or $(ZEPHYR_CACHE),$(HOME)/.cache/zephyr)/target
.PHONY: help try dataset cluster cluster-down cluster-env images install check generate test test-units test-azure test-gcs demo bench bench-recovery \
  bench-operator simulate soak jq-expectations docs release-check

help: ## Print this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

try: ## Run a first job on this machine, in a few minutes: needs Rust and a C compiler
	@examples/run try

cluster: ## Make the test cluster, or what is missing of it
	@tests/cluster/up

cluster-down: ## Delete the test cluster, and stop the engine if `make cluster` started it
	@tests/cluster/down

cluster-env: ## Print its environment: eval "$(make -s cluster-env)"
	@tests/cluster/env

images: ## Build the operator's and the worker's image
	@tests/cluster/images

install: images ## Load the images into the cluster and install the chart
	@tests/cluster/install

dataset: ## Fetch the text in which demo and tests count words, and print its folder
	@examples/demo/dataset

generate: ## Write what is generated: crds/zephyrjobs.yaml, the chart's copy of it, the pictures of docs/images
	@tests/check/generate

check: ## What needs no cluster: format, lints, dependencies, generated files, chart
	@tests/check/run

test: ## Everything: check, then all tests on the cluster
	@tests/run

test-units: ## The tests that need no cluster
	@tests/run units

docs: ## Build the book of docs/ with mdBook, and check the links of its pages
	@docs/build

release-check: ## Build the release images and say what is in them; check the chart, the workflows, install.yaml and the krew manifest
	@tests/check/run release

test-azure: ## The storage tests and a job on Azure Blob Storage's emulator; needs Node.js and no cluster
	@tests/azure/run

test-gcs: ## The same through Google's client, on the cluster's S3 server behind a translator; needs Node.js and the cluster
	@eval "$$(tests/cluster/env)" && tests/gcs/run

demo: ## From nothing to a finished word count of a real text
	@examples/demo/run

bench: ## kubectl-zephyr run beside jq, DuckDB and Polars
	@tests/bench/run

bench-recovery: ## What deaths, silence and 10,000 workers cost one coordinator
	@tests/bench/recovery

bench-operator: install ## The installed operator beside thousands of objects, and with hundreds of jobs
	@tests/bench/operator

jq-expectations: ## Ask real jq 1.8.1 for the values of the expressions in jq/tests/expectations; needs Python
	@jq/tests/with-jq jq/tests/expectations.py

simulate: ## Random runs by their seed, of the state machine, the ledger, whole jobs and the operator: make simulate SEED=17
	@ZEPHYR_SEED=$(or $(SEED),$(error SEED is missing: make simulate SEED=17)) $(simulation)

soak: ## 20,000 of them, and of pairs and triples of faults in the operator, 2,000 whole jobs, 50,000 drawn ones, then hours of one coordinator process under workers that come and go (ZEPHYR_SOAK_MINUTES)
	@ZEPHYR_SEEDS=20000 ZEPHYR_COMBINATIONS=50000 $(simulation)
	@tests/bench/soak

# The whole workspace: these are the very units that `make test` builds.
simulation = cargo test --quiet --locked --workspace --lib -- --nocapture --exact \
  coordinator::tests::simulation::what_the_environment_asks_for simulation::what_the_environment_asks_for \
  simulation::combinations::what_the_environment_asks_for
