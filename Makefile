# Two doors: `make demo` shows it, `make test` proves it.
#   make demo            a 3-node ZooKeeper ensemble on this machine, kept running
#   make demo ONCE=1     the same, then everything is removed again
#   make test            installs what the tests need and runs every test
#   make deny            licences, sources and known advisories of what it is built from
#   make clean-hosts     stops the demo and removes every host it made
SHELL := /bin/bash
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
export CARGO_TARGET_DIR := $(abspath $(TARGET))
BIN := $(CARGO_TARGET_DIR)/debug
ONCE ?=

.PHONY: demo test lint deny build agent-deb clean-hosts

demo:
	@packaging/install-needed.sh demo
	@$(MAKE) --no-print-directory agent-deb
	@ONCE="$(ONCE)" packaging/demo.sh "$(BIN)"

test:
	@packaging/install-needed.sh test
	@$(MAKE) --no-print-directory agent-deb
	$(CARGO) test --workspace --locked

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

deny:
	@packaging/deny.sh "$(CARGO_TARGET_DIR)/tools"

build:
	$(CARGO) build --workspace --bins --locked

agent-deb: build
	@packaging/debian/build-agent.sh "$(BIN)/straas-agent" "$(BIN)"

clean-hosts:
	@"$(BIN)/straas" dev down --purge
