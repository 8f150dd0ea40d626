# `make` alone lists what can be made. Every target installs what it needs and the machine lacks, by
# tests/setup: programs with apt, the rest under .test/.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help demo test lint fmt bench fuzz soak image-test

# What tests/setup wrote: the paths that tests look for, and the folder of what it installed.
ENVIRONMENT := . .test/env

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Run a legacy API, the gateway before it and a page that shows both
	@tests/setup build
	$(ENVIRONMENT)
	exec cargo run --release --locked -- demo

test: ## Check formatting and lints, then run every test
	@tests/setup test
	$(ENVIRONMENT)
	set -x
	cargo fmt --all --check
	cargo clippy --all-targets --locked -- -D warnings
	# Examples in documentation first: nextest does not run them.
	cargo test --doc --locked
	if cargo nextest --version >/dev/null 2>&1; then
		cargo nextest run --locked
	else
		cargo test --all-targets --no-fail-fast --locked
	fi

lint: ## Check lints, warnings being errors
	@tests/setup build
	$(ENVIRONMENT)
	cargo clippy --all-targets --locked -- -D warnings

fmt: ## Format the code
	cargo fmt --all

bench: ## Measure the gateway against a bare broadcaster and others; QUICK=1 takes a minute
	@tests/setup build
	$(ENVIRONMENT)
	cargo build --profile bench --locked --bin wellspring --example bare_proxy
	target=$${CARGO_TARGET_DIR:-target}
	cargo run --release --locked --manifest-path benches/harness/Cargo.toml -- \
		--gateway "$$target/release/wellspring" --bare "$$target/release/examples/bare_proxy" \
		$${WELLSPRING_PYTHON:+--python "$$WELLSPRING_PYTHON"} --append 'cargo bench --quiet --locked --bench diff' $(if $(filter-out 0,$(QUICK)),--quick)

# What is found stays under .test/fuzz, what breaks a law under fuzz/artifacts. No sanitizer: there is no unsafe code to watch,
# and without one no nightly compiler is needed.
fuzz: ## Search for input that breaks a law of fuzz/src: TARGET=json TIME=600; without TARGET each for TIME=60 seconds
	@tests/setup fuzz
	$(ENVIRONMENT)
	for target in $(or $(TARGET),$$(ls fuzz/corpus)); do
		mkdir -p ".test/fuzz/$$target"
		cargo fuzz run --sanitizer none "$$target" ".test/fuzz/$$target" "fuzz/corpus/$$target" -- \
			-max_total_time=$(or $(TIME),60) -timeout=10 -dict="fuzz/words"
	done

soak: ## Let everything fail for half an hour, with storms of 10,000 clients: MINUTES=600; SEED=7 begins with that seed
	@tests/setup test
	$(ENVIRONMENT)
	ulimit -n "$$(ulimit -H -n)"
	export WELLSPRING_FAULTS_MINUTES=$(or $(MINUTES),30) $(if $(SEED),WELLSPRING_FAULTS_SEED=$(SEED))
	cargo test --profile bench --locked --test it -- --ignored --exact faults::soak --nocapture

image-test: ## Build the container image without a container engine, and try it; needs root
	tests/image/run
