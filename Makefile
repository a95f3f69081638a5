# The commands for people, one line each. The scripts that they call do the work, and recipes
# contain no logic.
.DEFAULT_GOAL := help
# The target folder is outside the clone, so that a fresh clone on a known machine compiles only new
# code.
export CARGO_TARGET_DIR ?= $(or $(ZEPHYR_CACHE),$(HOME)/.cache/zephyr)/target
.PHONY: help try dataset cluster cluster-down cluster-env images install check generate test test-units test-azure test-gcs test-large test-move demo bench bench-split bench-s3 bench-exec bench-shuffle bench-recovery \
  bench-operator bench-jq simulate soak jq-expectations jq-fuzz oracle docs release-check

help: ## Print this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

try: ## Run a first job on this machine, in a few minutes: needs Rust and a C compiler
	@examples/run try

cluster: ## Create the test cluster, or its missing parts
	@tests/cluster/up

cluster-down: ## Delete the test cluster, and stop the engine if `make cluster` started it
	@tests/cluster/down

cluster-env: ## Print its environment: eval "$(make -s cluster-env)"
	@tests/cluster/env

images: ## Build the operator's and the worker's image
	@tests/cluster/images

install: images ## Load the images into the cluster and install the chart
	@tests/cluster/install

dataset: ## Download the text whose words the demo and the tests count, and print its folder
	@examples/demo/dataset

generate: ## Write the generated files: crds/zephyrjobs.yaml, the chart's copy of it, the pictures in docs/images
	@tests/check/generate

check: ## All checks that need no cluster: format, lints, dependencies, generated files, chart
	@tests/check/run

test: ## Everything: check, then all tests on the cluster
	@tests/run

test-units: ## The tests that need no cluster
	@tests/run units

docs: ## Build the book of docs/ with mdBook, and check the links of its pages
	@docs/build

release-check: ## Build the release images and check their contents; check the chart, the workflows, install.yaml and the krew manifest
	@tests/check/run release

test-azure: ## Storage tests and a job on the emulator of Azure Blob Storage; needs Node.js and no cluster
	@tests/azure/run

test-gcs: ## The same through Google's client, on the cluster's S3 server behind a translator; needs Node.js and the cluster
	@eval "$$(tests/cluster/env)" && tests/gcs/run

test-move: install ## A job that is suspended in the test cluster and continues in a second kind cluster, which is deleted afterwards
	@tests/move

demo: ## Create a cluster and count the words of a real text on it
	@examples/demo/run

bench: ## Compare kubectl-zephyr run with jq, DuckDB, Polars and Python
	@tests/bench/run

test-large: ## Shuffling steps on 2 GB of skewed data, each in a worker of 1 GiB
	@tests/large 2000

bench-shuffle: ## Count the requests of a shuffle of 2,000 files and 256 shards to an S3 server; needs Go
	@tests/bench/shuffle

bench-s3: ## Compare a job from S3 to S3 with the S3 client alone; needs Go
	@tests/bench/s3

bench-exec: ## Megabytes in a second through a command
	@tests/bench/exec

bench-split: ## Compare one and two tasks at a time on one file of 2 GB
	@tests/bench/split

bench-recovery: ## Measure one coordinator with lost workers, silent workers and 10,000 workers
	@tests/bench/recovery

bench-operator: install ## Measure the installed operator among thousands of objects, and with hundreds of jobs
	@tests/bench/operator

bench-jq: ## Nanoseconds a record for some expressions, beside jq, jaq and gojq if they are installed; needs Python
	@jq/tests/speed

jq-expectations: ## Ask real jq 1.8.1 for the values of the expressions in jq/tests/expectations; needs Python
	@jq/tests/with-jq jq/tests/expectations.py

jq-fuzz: ## Random programs through this evaluator and real jq, for TIME seconds; needs Python
	@jq/tests/fuzz $(or $(TIME),60)

oracle: ## Compare steps and aggregates with a computation in Python, on SEEDS random inputs
	@tests/oracle/run $(or $(SEEDS),20)

simulate: ## Repeat the random runs of one seed (state machine, ledger, whole jobs, operator): make simulate SEED=17
	@ZEPHYR_SEED=$(or $(SEED),$(error SEED is missing: make simulate SEED=17)) $(simulation)

soak: ## 20,000 random runs, 20,000 pairs and triples of faults in the operator, 2,000 whole jobs, 50,000 random jobs, shuffles of 20 GB, then hours of one coordinator process with workers that come and go (ZEPHYR_SOAK_MINUTES)
	@ZEPHYR_SEEDS=20000 ZEPHYR_COMBINATIONS=50000 $(simulation)
	@tests/large 20000
	@tests/bench/soak

# The whole workspace is built, because `make test` builds exactly the same units.
simulation = cargo test --quiet --locked --workspace --lib -- --nocapture --exact \
  coordinator::tests::simulation::requested_runs_end_correctly simulation::requested_runs_end_correctly \
  simulation::combinations::requested_runs_end_correctly
