# Targets for people and for CI; `make help` lists them. What is kept between runs is beneath
# $XDG_CACHE_HOME/wasm-interp (sources from registries where cargo and go keep them), results are in dist/.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/wasm-interp
CARGO_HOME ?= $(HOME)/.cargo
# As scripts/environment says it.
export PATH := $(CACHE)/toolchains/bin:$(CARGO_HOME)/bin:$(PATH):/usr/local/go/bin
export CARGO_TARGET_DIR ?= $(CACHE)/target

ARCH ?= $(shell uname -m)
TARGET := $(ARCH)-unknown-linux-gnu

# Static executables run on any distribution. libseccomp is the one C library in them.
STATIC := RUSTFLAGS='-C target-feature=+crt-static' LIBSECCOMP_LINK_TYPE=static
STATIC_NATIVE := $(STATIC) LIBSECCOMP_LIB_PATH=/usr/lib/$(ARCH)-linux-gnu
STATIC_ARM64 := $(STATIC) LIBSECCOMP_LIB_PATH=$(CACHE)/arm64/usr/lib/aarch64-linux-gnu \
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc

# Each by its own `cargo build -p`: Cargo unifies features across what it builds together, and the
# compiler must not end up in the runner.
PACKAGES := containerd-shim-wasm-interp wasm-interp-runner wasm-interp wasm-interp-agent
EXECUTABLES := containerd-shim-wasm-interp-v1 wasm-interp-runner wasm-interp wasm-interp-agent

# The containerds that `make test` and `make test-matrix` run against (tests/containerd).
CONTAINERDS := 1.6 1.7 2.4
MATRIX := 1.6 1.7 2.0 2.1 2.2 2.3 2.4

say = @printf '\n==> %s\n' "$(1)"

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: bootstrap
bootstrap: ## Install what is missing to build and test (Debian or Ubuntu, root)
	@scripts/bootstrap

.PHONY: build
build: bootstrap ## Build the static executables into dist/
	@mkdir -p dist
	@for package in $(PACKAGES); do \
		printf '==> building %s\n' "$$package"; \
		$(STATIC_NATIVE) cargo build --release --locked --target $(TARGET) --package "$$package"; \
	done
	@for executable in $(EXECUTABLES); do \
		install -m755 "$(CARGO_TARGET_DIR)/$(TARGET)/release/$$executable" "dist/.$$executable.new"; \
		mv "dist/.$$executable.new" "dist/$$executable"; \
	done
	@ls -l --human-readable $(addprefix dist/,$(EXECUTABLES))

.PHONY: images
images: build ## Build the OCI archives into dist/images/
	@images/build dist/images

.PHONY: demo
demo: build images ## Run a script in a container, twice, on a containerd of its own
	@scripts/demo

.PHONY: test
test: test-unit test-containerd ## Run every test: unit, integration, and containerd 1.6, 1.7 and 2.4

.PHONY: test-unit
test-unit: bootstrap ## Run the tests that need no containerd (root: they make real containers)
	@scripts/bootstrap busybox
	$(call say,tests of the crates)
	@cargo test --locked --workspace --exclude wasm-interp-tests --no-fail-fast

.PHONY: test-containerd
test-containerd: build images ## Run the tests against the containerds named in CONTAINERDS
	@for series in $(CONTAINERDS); do scripts/test-containerd "$$series"; done

.PHONY: test-matrix
test-matrix: ## Run the tests against every containerd from 1.6 to 2.4
	@$(MAKE) test-containerd CONTAINERDS='$(MATRIX)'

.PHONY: chart
chart: bootstrap ## Check the Helm chart: lint, renderings, refused values, files made from it
	@scripts/chart

.PHONY: test-node
test-node: build ## Run the node installer on booted nodes with systemd, containerd 1.6 and 2.4
	@scripts/bootstrap e2e
	@for series in 1.6 2.4; do scripts/test-node "$$series"; done

.PHONY: e2e
e2e: build images ## Run the tests on a real Kubernetes cluster of two nodes (or on E2E_KUBECONFIG with E2E_CONTEXT)
	@scripts/e2e

.PHONY: e2e-full
e2e-full: export E2E_COMPLETIONS ?= 500
e2e-full: e2e ## The same with a Job of 500 completions instead of 100 (or of E2E_COMPLETIONS)

.PHONY: cluster
cluster: build images ## Bring up the cluster of the tests and keep it until Ctrl-C
	@scripts/e2e --keep

.PHONY: cluster-down
cluster-down: ## End the cluster that `make cluster` keeps
	@scripts/e2e --end

.PHONY: test-api
test-api: bootstrap ## Test the chart, the examples and the agent against a real API server
	@scripts/test-api

.PHONY: test-v2
test-v2: build images ## Run the tests in a virtual machine with cgroup v2 and systemd (emulated: slow)
	@scripts/test-v2

.PHONY: lint
lint: bootstrap ## Check format, clippy's advice and the shell scripts
	$(call say,format)
	@cargo fmt --all --check
	$(call say,clippy)
	@cargo clippy --locked --workspace --all-targets -- -D warnings
	$(call say,shellcheck)
	@grep -lE '^#!/usr/bin/env bash|^# shellcheck shell=bash' -r scripts images tests/machine .ci | xargs shellcheck --external-sources --severity=info

.PHONY: deny
deny: ## Check licences, sources and duplicate dependencies
	@scripts/bootstrap deny
	$(call say,cargo deny)
	@cargo metadata --locked --format-version 1 >/dev/null
	@$(CACHE)/tools/bin/cargo-deny --locked check licenses bans sources

.PHONY: docs
docs: bootstrap ## Build the API documentation; broken links are errors
	$(call say,documentation)
	@RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --document-private-items

.PHONY: cross
cross: ## Build the executables for arm64 too
	@scripts/bootstrap cross
	@for package in $(PACKAGES); do \
		printf '==> building %s for arm64\n' "$$package"; \
		$(STATIC_ARM64) cargo build --locked --target aarch64-unknown-linux-gnu --package "$$package"; \
	done
	@for executable in $(EXECUTABLES); do \
		readelf --file-header "$(CARGO_TARGET_DIR)/aarch64-unknown-linux-gnu/debug/$$executable" | grep -q AArch64; \
	done

.PHONY: boundaries
boundaries: bootstrap ## Check what must not be in an executable: a compiler, Wasmtime, TLS
	$(call say,boundaries)
	@tree=$$(cargo tree --locked --package wasm-interp-runner --edges normal); ! grep cranelift-codegen <<<"$$tree"
	@tree=$$(cargo tree --locked --package containerd-shim-wasm-interp --edges normal); ! grep -w wasmtime <<<"$$tree"
	@tree=$$(cargo tree --locked --package wasm-interp-agent --edges normal); ! grep -wE 'wasmtime|libcontainer' <<<"$$tree"
	@for package in $(filter-out wasm-interp-agent,$(PACKAGES)); do \
		tree=$$(cargo tree --locked --package "$$package" --edges normal); ! grep -wE 'rustls|kube' <<<"$$tree"; \
	done

.PHONY: bench
bench: build images ## Measure against runc and the peer; writes docs/benchmarks.md
	@scripts/bootstrap bench
	@CARGO_TARGET_DIR=$(CACHE)/peer cargo build --release --locked --manifest-path benches/peer/Cargo.toml
	@benches/run --containerd "$$(scripts/containerd 2.4)" --peer $(CACHE)/peer/release/containerd-shim-peer-v1

.PHONY: bench-cluster
bench-cluster: build images ## Measure pods on a cluster of its own; writes a section of docs/benchmarks.md
	@scripts/e2e --bench

.PHONY: clean
clean: ## Remove dist/ and the builds in the cache; toolchains and containerds stay
	@rm -rf dist '$(CACHE)/target'
