# imds-guard. `make` lists the verbs.
ARCH := $(patsubst aarch64,arm64,$(patsubst x86_64,x64,$(shell uname -m)))
NODE := node_modules/node-linux-$(ARCH)/bin/node

SHELL := /bin/sh
.SHELLFLAGS := -ec
MAKEFLAGS += --no-builtin-rules --no-print-directory
.PHONY: help setup system build executable check test demo fuzz soak bench reasons manifests userdata clean

help: ## list the verbs
	@sed -n 's/^\([a-z%-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-16s %s\n", $$1, $$2 }'

setup: system node_modules/.package-lock.json ## what the build and the tests need: system packages and node_modules

build: setup ## dist/imds-guard, with the Node it was built for
	@$(NODE) agent/build.mjs

executable: setup ## dist/imds-guard-linux-x64 and -arm64: one file each, the same bytes for the same checkout
	@$(NODE) agent/executable/build.mjs

check: setup ## types
	@$(NODE) node_modules/typescript/bin/tsc --noEmit

test: setup build check ## everything: types, then all groups of tests
	@$(NODE) test/run.ts

test-%: setup ## one group of tests: test-unit, test-kernel, test-cli, …
	@$(NODE) test/run.ts $*

demo: build ## pods reach IMDS, the documented rules, how they fail, and what this does: in namespaces, nothing stays
	@$(NODE) test/lab/sandbox.ts $(NODE) test/demo/demo.ts

fuzz: setup ## random rules against the kernel: make fuzz RUNS=20000 SEED=7
	@$(if $(RUNS),RUNS=$(RUNS)) $(if $(SEED),SEED=$(SEED)) $(NODE) test/run.ts fuzz

soak: build ## no pod gets a token, whoever rewrites the firewall: make soak SECONDS=60 ONLY=flushed
	@$(NODE) test/lab/sandbox.ts $(NODE) test/soak/soak.ts $(or $(SECONDS),60) $(if $(ONLY),'$(ONLY)')

bench: build ## how long a pass takes, and what it costs
	@$(NODE) test/executable/executables.ts
	@$(NODE) test/lab/sandbox.ts $(NODE) test/bench/bench.ts

reasons: setup ## agent/commands/reasons.md from the list in the code
	@WRITE_REASONS=1 $(NODE) test/unit/reasons.test.ts >/dev/null

manifests: setup ## daemonset/*.yaml from the chart, by a helm that is built for it
	@WRITE_MANIFESTS=1 $(NODE) test/chart/manifests.test.ts >/dev/null

userdata: setup ## userdata/: units, scripts and user data as the program prints them
	@WRITE_USERDATA=1 $(NODE) test/userdata/renderings.test.ts >/dev/null

clean: ## what the build and the tests leave
	@rm -rf dist .tap coverage node_modules/.cache

# npm writes this file at the end of an install; it is older than the lock file when the lock has changed since.
node_modules/.package-lock.json: package-lock.json
	@command -v npm >/dev/null || { echo "npm is needed (any version from 10): install Node.js" >&2; exit 1; }
	@npm ci --loglevel=error --no-progress
	@touch $@

COMMANDS := iptables iptables-nft iptables-legacy ip6tables nft ip ipset conntrack sysctl unshare nsenter
APT := iptables nftables iproute2 ipset conntrack procps util-linux
DNF := iptables-nft iptables-legacy nftables iproute ipset conntrack-tools procps-ng util-linux

# Nothing to do where every command is there; otherwise root installs, and anybody else is told the command.
system:
	@PATH="$$PATH:/usr/sbin:/sbin"; missing=; \
	for command in $(COMMANDS); do command -v $$command >/dev/null || missing="$$missing $$command"; done; \
	test -n "$$missing" || exit 0; \
	if command -v apt-get >/dev/null; then \
		install="apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(APT)"; \
	elif command -v dnf >/dev/null; then install="dnf install -y -q $(DNF)"; \
	else echo "missing:$$missing; install them with this system's package manager" >&2; exit 1; fi; \
	if test "$$(id -u)" = 0; then echo "missing:$$missing; running: $$install" >&2; sh -c "$$install" >&2 </dev/null; \
	else echo "missing:$$missing; as root: $$install" >&2; exit 1; fi
