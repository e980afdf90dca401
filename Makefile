# make run    build, start every role on simulated and captured traffic, print address and login
# make test   everything that a change must pass
# make help   the rest

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
UI := actors/web/ui
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
BENOCS := $(CARGO_TARGET_DIR)/release/benocs

.PHONY: help deps deps-test ui build run test fmt format lint tests ui-tests fuzz-check browser test-long bench lab clean

help: ## This list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

deps:
	@scripts/deps build

deps-test:
	@scripts/deps test

ui: $(UI)/dist/index.html ## Build the page.

$(UI)/node_modules/.package-lock.json: $(UI)/package-lock.json
	node=$$(scripts/node); cd $(UI) && PATH="$$node:$$PATH" npm ci --no-audit --no-fund --loglevel=error

$(UI)/dist/index.html: $(UI)/node_modules/.package-lock.json $(shell find $(UI)/src $(UI)/index.html $(UI)/vite.config.ts 2>/dev/null)
	node=$$(scripts/node); cd $(UI) && PATH="$$node:$$PATH" npm run --silent build

build: deps ui ## Build the page and the program.
	cargo build --release --workspace --quiet

run: build ## Start every role with its defaults on sample traffic; Ctrl-C ends it.
	@scripts/run "$(BENOCS)"

fmt: ## Format.
	cargo fmt --all

format:
	cargo fmt --all --check

lint: format
	cargo clippy --workspace --all-targets --quiet -- -D warnings

fuzz-check:
	cargo check --quiet --manifest-path fuzz/Cargo.toml
	cargo check --quiet --benches --manifest-path benches/peers/Cargo.toml

tests:
	cargo test --release --workspace --lib --bins --tests

ui-tests: $(UI)/node_modules/.package-lock.json
	node=$$(scripts/node); cd $(UI) && PATH="$$node:$$PATH" npm run --silent check && PATH="$$node:$$PATH" npm test --silent

browser:
	@scripts/browser "$(BENOCS)"

test: deps-test ui ui-tests lint fuzz-check tests browser ## Format, clippy, layering, fuzz targets, tests, page in Chromium.

test-long: deps-test build ## What takes hours: fuzzing.
	scripts/fuzz 600

bench: build ## Benchmarks, with the peers in the same run; results belong in benches/README.md.
	cargo bench --workspace
	cargo bench --manifest-path benches/peers/Cargo.toml
	scripts/bench-collector "$(BENOCS)"
	scripts/bench-collector "$(BENOCS)" --veth

lab: build deps-test ## Namespaces with real routers, resolver and exporters, and --role all on top.
	scripts/lab "$(BENOCS)"

clean:
	rm -rf $(UI)/dist $(UI)/node_modules
	cargo clean
