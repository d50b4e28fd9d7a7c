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
# Of its own, so that nothing waits for it.
CROSS_TARGET_DIR ?= $(CACHE)/cross

ARCH ?= $(shell uname -m)
TARGET := $(ARCH)-unknown-linux-gnu

# Static executables run on any distribution. libseccomp is the one C library in them. Frame pointers lead a sample of
# `wasm-interp run --profile` from a host function to the guest's function that called it.
STATIC := RUSTFLAGS='-C target-feature=+crt-static -C force-frame-pointers=yes' LIBSECCOMP_LINK_TYPE=static
STATIC_NATIVE := $(STATIC) LIBSECCOMP_LIB_PATH=/usr/lib/$(ARCH)-linux-gnu
STATIC_ARM64 := $(STATIC) LIBSECCOMP_LIB_PATH=$(CACHE)/arm64/usr/lib/aarch64-linux-gnu \
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc

# Each by its own `cargo build -p`: Cargo unifies features across what it builds together, and the
# compiler must not end up in the runner.
DEMO_PACKAGES := wasm-interp-compiler wasm-interp-runner containerd-shim-wasm-interp
PACKAGES := $(DEMO_PACKAGES) wasm-interp wasm-interp-agent
# What builds images, and is on no node.
IMAGE_PACKAGES := wasm-interp-preinit
# The executable of each package.
executables = $(patsubst containerd-shim-wasm-interp,containerd-shim-wasm-interp-v1,$(1))

# The containerds that `make test` and `make test-matrix` run against (tests/modules/containerd).
CONTAINERDS := 1.6 1.7 2.4
MATRIX := 1.6 1.7 2.0 2.1 2.2 2.3 2.4

# How long each fuzz target runs.
FUZZ_SECONDS ?= 20

# How many steps the model test takes, and from which seed: another one each time, unless it is given.
MODEL_STEPS ?= 1000000
MODEL_SEED := $(or $(MODEL_SEED),$(shell date +%s))

# How many times the test of signals tries each way to block.
SIGNAL_TRIES ?= 100000

# How many rounds `make test-rounds` makes.
ROUNDS ?= 1000

# How often `make test-chaos` kills each victim: if no number is given, 50 times on containerd 2.4 and ten times on each
# other one. From which seed the moments come: another one each time, unless it is given.
CHAOS_TRIES ?=
CHAOS_SEED := $(or $(CHAOS_SEED),$(shell date +%s))

# A part of a target's tests, for a look or for .ci/run: a word of their names and options, for containerd's suite a regular
# expression, for test-v2 a part of it too.
ROBUSTNESS ?=
DOCKER ?=
CONFORMANCE ?=
V2 ?=

say = @printf '\n==> %s\n' "$(1)"

# $(call build,PACKAGE …): their static executables in dist/.
define build
	@mkdir -p dist
	@packages=($(1)); for number in "$${!packages[@]}"; do \
		printf '==> building executable %s of %s: %s\n' $$((number + 1)) $${#packages[@]} "$${packages[number]}"; \
		$(STATIC_NATIVE) cargo build --release --locked --target $(TARGET) --package "$${packages[number]}"; \
	done
	@for executable in $(call executables,$(1)); do \
		install -m755 "$(CARGO_TARGET_DIR)/$(TARGET)/release/$$executable" "dist/.$$executable.new"; \
		mv "dist/.$$executable.new" "dist/$$executable"; \
	done
	@ls -l --human-readable $(addprefix dist/,$(call executables,$(1)))
endef

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: bootstrap
bootstrap: ## Install what is missing to build and test (Debian or Ubuntu, root)
	@scripts/bootstrap

.PHONY: build
build: bootstrap ## Build the static executables into dist/
	$(call build,$(PACKAGES))

.PHONY: images
images: build ## Build the OCI archives into dist/images/: interpreters from source (minutes, once)
	$(call build,$(IMAGE_PACKAGES))
	@images/build dist/images

.PHONY: sdk
sdk: bootstrap ## Make the SDK for C programs (a Debian 13 with clang in the cache) and its images
	@scripts/sdk >/dev/null
	@images/build dist/images sdk posix

.PHONY: demo
demo: ## Build what a demo needs, and run a script in a container, twice, on a containerd of its own
	@scripts/bootstrap demo
	$(call build,$(DEMO_PACKAGES))
	@images/build dist/images languages/python:slim hello:slim
	@scripts/demo

.PHONY: test
test: test-unit test-containerd test-languages ## Run every test: unit, integration, containerd 1.6, 1.7 and 2.4, interpreters

.PHONY: test-unit
test-unit: bootstrap ## Run the tests that need no containerd (root: they make real containers)
	@scripts/bootstrap busybox debian
	$(call say,tests of the crates)
	@cargo test --locked --workspace --exclude wasm-interp-test-containerd --exclude wasm-interp-test-docker --exclude wasm-interp-test-node --no-fail-fast

.PHONY: test-containerd
test-containerd: build images ## Run the tests against the containerds named in CONTAINERDS
	@for series in $(CONTAINERDS); do scripts/test-containerd "$$series"; done

.PHONY: test-matrix
test-matrix: ## Run the tests against every containerd from 1.6 to 2.4
	@$(MAKE) test-containerd CONTAINERDS='$(MATRIX)'

.PHONY: test-languages
test-languages: build images ## Run the tests of the interpreters, and of programs in them, on containerd 2.4
	@scripts/test-containerd 2.4 --languages

.PHONY: test-packages
test-packages: build images ## Install and import 100 packages of PyPI in Python's image, run some packages' own tests; writes a page of docs
	@scripts/test-python packages

.PHONY: profile-python
profile-python: build ## Write images/languages/python/profile.xz again: how often programs run each piece of CPython (ten minutes)
	@scripts/train-python

.PHONY: test-python
test-python: build images ## Run CPython's own tests in its image; writes docs/internals/python-tests.md (minutes)
	@scripts/test-python library

.PHONY: test-django
test-django: build images ## Run Django's own tests on SQLite in Python's image; writes docs/internals/django-tests.md (minutes)
	@scripts/test-python django

.PHONY: test-rounds
test-rounds: build images ## Make 1,000 rounds of a container's life, 16 at once, and count what is left (ROUNDS=N)
	@WASM_INTERP_TEST_ROUNDS=$(ROUNDS) scripts/test-containerd 2.4 --robustness rounds::

.PHONY: test-chaos
test-chaos: build images ## Kill shim, runner, logger, exec and containerd at random moments (CHAOS_SEED=N, CHAOS_TRIES=N)
	@for series in $(CONTAINERDS); do \
		printf '==> kills from seed %s: CHAOS_SEED=%s repeats them\n' $(CHAOS_SEED) $(CHAOS_SEED); \
		tries=$(CHAOS_TRIES); [[ -n $$tries ]] || { tries=10; [[ $$series != 2.4 ]] || tries=50; }; \
		WASM_INTERP_TEST_CHAOS_SEED=$(CHAOS_SEED) WASM_INTERP_TEST_CHAOS_TRIES=$$tries scripts/test-containerd "$$series" --robustness chaos::; \
	done

.PHONY: test-robustness
test-robustness: build images ## Break what containers depend on, a few times each, on containerd 2.4: kills, full disks, many rounds
	@scripts/test-containerd 2.4 --robustness $(ROBUSTNESS)

.PHONY: test-docker
test-docker: build images ## Run the tests under a Docker 26 of their own, each beside Docker's runc
	@scripts/test-docker $(DOCKER)

.PHONY: test-conformance
test-conformance: build ## Run containerd's own client suite under runc and here, on 2.4 and 1.6; writes docs/internals/conformance.md
	@scripts/test-conformance $(if $(CONFORMANCE),2.4 '$(CONFORMANCE)')

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

.PHONY: e2e-apps
e2e-apps: build images ## Run a real application on the cluster: Django on PostgreSQL, with a browser and under load
	@scripts/e2e --apps

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
	@scripts/test-v2 $(V2)

.PHONY: test-v2-tree
test-v2-tree: bootstrap ## Run tests of the runner and the shim with this machine's tree of cgroup v2, those that set no limit
	@scripts/test-v2-tree $(V2)

.PHONY: test-model
test-model: bootstrap ## Compare a guest's files with the kernel's over a million random steps (MODEL_STEPS=N, MODEL_SEED=N)
	$(call say,a guest beside the kernel: $(MODEL_STEPS) steps from seed $(MODEL_SEED))
	@WASM_INTERP_MODEL_STEPS=$(MODEL_STEPS) WASM_INTERP_MODEL_SEED=$(MODEL_SEED) \
		cargo test --locked --workspace --test model -- guest_and_kernel_agree

.PHONY: test-signals
test-signals: bootstrap ## Try 100,000 times per way to block whether a signal is lost (SIGNAL_TRIES=N for another number)
	$(call say,signals right before a call that blocks: $(SIGNAL_TRIES) of each)
	@WASM_INTERP_SIGNAL_TRIES=$(SIGNAL_TRIES) \
		cargo test --locked --workspace --test signals -- signal_right_before_a_blocking_call_is_not_lost

.PHONY: fuzz
fuzz: bootstrap ## Fuzz what reads untrusted input, 20 s per target (FUZZ_SECONDS=N for another time)
	@scripts/fuzz --seconds $(FUZZ_SECONDS)

.PHONY: fuzz-build
fuzz-build: bootstrap ## Build the fuzz targets
	@scripts/fuzz --build

.PHONY: fuzz-planted
fuzz-planted: bootstrap ## Check that each fuzz target finds the fault planted in it
	@scripts/fuzz --planted

.PHONY: lint
lint: bootstrap ## Check format, clippy's advice, shell scripts, links, and the words and names of all texts
	$(call say,format)
	@cargo fmt --all --check
	@cargo fmt --manifest-path fuzz/Cargo.toml --check
	$(call say,clippy)
	@cargo clippy --locked --workspace --all-targets -- -D warnings
	$(call say,shellcheck)
	@grep -lE '^#!/usr/bin/env bash|^#!/bin/sh|^# shellcheck shell=bash' -r scripts images sdk tests/machine .ci | xargs shellcheck --external-sources --severity=info
	$(call say,links and words)
	@for tests in tests/text tests/language tests/conformance tests/python/suites; do \
		PYTHONDONTWRITEBYTECODE=1 python3 -m unittest discover --quiet --start-directory "$$tests"; \
	done
	@scripts/check-text

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
cross: export CARGO_TARGET_DIR := $(CROSS_TARGET_DIR)
cross: ## Build the executables for arm64 too
	@scripts/bootstrap cross
	@for package in $(PACKAGES); do \
		printf '==> building %s for arm64\n' "$$package"; \
		$(STATIC_ARM64) cargo build --locked --target aarch64-unknown-linux-gnu --package "$$package"; \
	done
	@for executable in $(call executables,$(PACKAGES)); do \
		readelf --file-header "$(CARGO_TARGET_DIR)/aarch64-unknown-linux-gnu/debug/$$executable" | grep -q AArch64; \
	done

.PHONY: boundaries
boundaries: bootstrap ## Check what must not be in an executable (a compiler, Wasmtime, TLS), and that no modules form a circle
	$(call say,circles of modules)
	@PYTHONDONTWRITEBYTECODE=1 python3 -m unittest discover --quiet --start-directory tests/circles
	@scripts/check-circles
	$(call say,boundaries)
	@tree=$$(cargo tree --locked --package wasm-interp-runner --edges normal); ! grep -wE 'cranelift-codegen|wasmtime-wasi|tokio' <<<"$$tree"
	@tree=$$(cargo tree --locked --package containerd-shim-wasm-interp --edges normal); ! grep -w wasmtime <<<"$$tree"
	@tree=$$(cargo tree --locked --package wasm-interp --edges normal); ! grep -wE 'wasmtime|cranelift-codegen|libcontainer' <<<"$$tree"
	@tree=$$(cargo tree --locked --package wasm-interp-compiler --edges normal); ! grep -wE 'tonic|zbus|tokio|libcontainer|wasmtime-wasi|wasm-interp-node' <<<"$$tree"
	@tree=$$(cargo tree --locked --package wasm-interp-agent --edges normal); ! grep -wE 'wasmtime|libcontainer' <<<"$$tree"
	@for package in $(filter-out wasm-interp-agent,$(PACKAGES)); do \
		tree=$$(cargo tree --locked --package "$$package" --edges normal); ! grep -wE 'rustls|kube' <<<"$$tree"; \
	done

.PHONY: bench
bench: build images ## Measure against runc and the peer (BEFORE=DIR: and another build); writes docs/internals/benchmarks.md
	@scripts/bootstrap bench
	@CARGO_TARGET_DIR=$(CACHE)/peer cargo build --release --locked --manifest-path benches/peer/Cargo.toml
	@benches/run --containerd "$$(scripts/go-tools containerd/2.4)" --peer $(CACHE)/peer/release/containerd-shim-peer-v1 \
		$(if $(BEFORE),--before '$(BEFORE)')

.PHONY: bench-interface
bench-interface: build images ## Measure the guest's system interface beside native CPython; SIDES='--side before=DIR/dist …' adds builds
	@benches/interface $(SIDES)

.PHONY: bench-net
bench-net: build ## Measure servers of C as guests beside their native builds, at 1, 50 and 1,000 connections
	@guests=$$(scripts/guests); benches/net "$$guests" --out docs/internals/benchmarks.md

.PHONY: bench-cpu
bench-cpu: build images ## Measure programs that only compute as guests and natively; SIDES='--side before=DIR/dist …' adds builds
	@benches/cpu $(SIDES) --out docs/internals/benchmarks.md

.PHONY: bench-apps
bench-apps: build images ## Measure Django, FastAPI and Flask beside native CPython; writes a section of docs/internals/benchmarks.md
	@images=$$(scripts/apps images); servers=$$(scripts/apps servers); native=$$(scripts/apps native); \
	database=$$(scripts/apps database); \
	benches/apps --containerd "$$(scripts/go-tools containerd/2.4)" --images "$$images" --servers "$$servers" \
		--native "$$native" --database "$$database/root" --out docs/internals/benchmarks.md

.PHONY: bench-cluster
bench-cluster: build images ## Measure pods on a cluster of its own; writes a section of docs/internals/benchmarks.md
	@scripts/e2e --bench

.PHONY: clean
clean: ## Remove dist/ and the builds in the cache; toolchains and containerds stay
	@rm -rf dist '$(CACHE)/target' '$(CROSS_TARGET_DIR)' '$(CACHE)/fuzz/target'
