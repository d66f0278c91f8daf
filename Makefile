# SPDX-License-Identifier: Apache-2.0
# One entry for everything; `make help` lists it. The build itself is CMake and Ninja, in build/.

BUILD    := build
AGENT    := $(BUILD)/agent
# One sanitized build serves the unit tests and the fuzz targets.
SANITIZE := $(BUILD)/sanitize
DEMO     := $(BUILD)/demo
MEMPLATE := $(AGENT)/memplate

PREFIX  ?= /usr/local
DESTDIR ?=
JOBS    ?= $(shell nproc)
# Seconds for each fuzz target in `make fuzz`, and in the short run of `make test`.
FUZZ_SECONDS       ?= 600
SHORT_FUZZ_SECONDS ?= 20
CLANGXX ?= clang++-19
PYTEST  ?= /usr/bin/python3 -m pytest -p no:cacheprovider

bindir        := $(DESTDIR)$(PREFIX)/bin
libexecdir    := $(DESTDIR)$(PREFIX)/libexec/memplate
libdir        := $(DESTDIR)$(PREFIX)/lib/memplate
completiondir := $(DESTDIR)$(PREFIX)/share/bash-completion/completions
mandir        := $(DESTDIR)$(PREFIX)/share/man/man1
pricesdir     := $(DESTDIR)$(PREFIX)/share/memplate/prices

# Headers of the kernel the module is for; each kernel has its own folder in build/kmod.
KDIR ?= /lib/modules/$(shell uname -r)/build

.NOTPARALLEL:
.DEFAULT_GOAL := all
.PHONY: all agent sanitize kmod deps demo demo-vm test test-unit test-sanitize test-e2e fuzz fuzz-short lint \
        test-kmod test-kmod-quick test-vm test-gpu test-debug debug-kernel \
        install clean help

all: agent sanitize ## Build everything that can be built here; says what is left out
	@$(have_test_libraries) || \
	  echo "left out: tests (libgtest-dev, libgmock-dev or libjemalloc-dev is missing;" \
	    "scripts/install-deps test)"
	@command -v $(CLANGXX) >/dev/null || \
	  echo "left out: fuzz targets ($(CLANGXX) is missing; scripts/install-deps test)"

have_test_libraries = test -f /usr/include/gtest/gtest.h && test -f /usr/include/gmock/gmock.h && \
  test -f /usr/include/jemalloc/jemalloc.h

# configure FOLDER OPTIONS: runs CMake only when the folder is new or its options changed.
define configure
	@set -e; testing=OFF; ! { $(have_test_libraries); } || testing=ON; \
	options="-DBUILD_TESTING=$$testing $(2)"; \
	if ! test -f $(1)/build.ninja || test "$$(cat $(1)/options 2>/dev/null)" != "$$options"; then \
	  rm -rf $(1); mkdir -p $(1); \
	  cmake -S agent -B $(1) -G Ninja $$options; \
	  echo "$$options" > $(1)/options; \
	fi
endef

agent: ## Build the agent and its unit tests
	$(call configure,$(AGENT),)
	ninja -C $(AGENT) -j $(JOBS)

sanitize: ## Build unit tests and fuzz targets with the address and undefined-behaviour sanitizers
	$(call configure,$(SANITIZE),-DMEMPLATE_SANITIZE=ON $(shell command -v $(CLANGXX) >/dev/null && \
	  echo -DMEMPLATE_FUZZ=ON -DCMAKE_CXX_COMPILER=$(CLANGXX)))
	ninja -C $(SANITIZE) -j $(JOBS)

kmod: ## Build the module for the kernel whose headers are in KDIR, in build/kmod/RELEASE
	@test -f $(KDIR)/include/generated/utsrelease.h || { \
	  echo "kmod: no kernel headers in $(KDIR): install linux-headers-$$(uname -r)," \
	    "or give KDIR=… (scripts/vm --print-kdir has some)" >&2; exit 1; }
	@set -e; folder=$(BUILD)/kmod/$$(sed -n 's/^#define UTS_RELEASE "\(.*\)"/\1/p' \
	  $(KDIR)/include/generated/utsrelease.h)$(if $(PSEUDO_MM_WITHOUT_ZAP),-without-zap); \
	mkdir -p $$folder; cp -ru kmod/. $$folder/; \
	$(MAKE) --no-print-directory -C $$folder KDIR=$(abspath $(KDIR)) modules; \
	echo "built $$folder/pseudo_mm.ko"

deps: ## Install what is missing (Debian packages, a CRIU for this kernel); needs root
	@scripts/install-deps all

demo: ## Measure cold, copy, lazy and mapped starts of two functions; report in build/demo
	@scripts/install-deps build
	@scripts/install-deps run
	@$(MAKE) --no-print-directory agent
	rm -rf $(DEMO)
	mkdir -p $(DEMO)
	$(MEMPLATE) bench restore \
	  --function tests/functions/big-state/function.toml \
	  --function tests/functions/js-json-serde/function.toml \
	  --methods cold,copy,lazy,mapped --runs 8 \
	  --json $(DEMO)/report.json --html $(DEMO)/report.html

# The clock of an emulated machine says nothing: what counts there are the memory figures.
demo-vm: ## The module and a pool on emulated persistent memory, in a virtual machine; report in build/demo-vm
	@scripts/install-deps build
	@scripts/install-deps run
	@scripts/install-deps vm
	@$(MAKE) --no-print-directory agent
	@$(MAKE) --no-print-directory kmod KDIR="$$(scripts/vm --print-kdir --kernel 6.12)"
	rm -rf $(DEMO)-vm
	mkdir -p $(DEMO)-vm
	scripts/vm --kernel 6.12 --memory 6G --dax nvdimm --dax-size 1G --share $(abspath $(DEMO)-vm) -- \
	  bash -euc 'insmod $(BUILD)/kmod/$$(uname -r)/pseudo_mm.ko; \
	    $(MEMPLATE) pool create --dax /dev/dax0.0; \
	    $(MEMPLATE) bench restore --function tests/functions/big-state/function.toml --pool /dev/dax0.0 \
	      --methods copy,attached --runs 3 --json $(DEMO)-vm/report.json --html $(DEMO)-vm/report.html; \
	    $(MEMPLATE) pool show /dev/dax0.0'

test: deps agent test-unit test-e2e sanitize test-sanitize fuzz-short test-kmod-quick ## Install, build and run all tests

test-unit: agent ## Run the unit tests, and the functions of tests/functions as they are
	ctest --test-dir $(AGENT) --output-on-failure --no-tests=error -j $(JOBS)

test-sanitize: sanitize ## Run the unit tests built with sanitizers
	UBSAN_OPTIONS=print_stacktrace=1 \
	  ctest --test-dir $(SANITIZE) -L unit --output-on-failure --no-tests=error -j $(JOBS)

test-e2e: agent ## Run the end-to-end tests: real functions, real CRIU; needs root
	MEMPLATE_BUILD=$(abspath $(AGENT)) $(PYTEST) -q tests/e2e

fuzz: sanitize ## Fuzz every reader of untrusted bytes for FUZZ_SECONDS each
	scripts/run-fuzzers $(SANITIZE)/fuzz $(FUZZ_SECONDS)

fuzz-short: sanitize ## The same for SHORT_FUZZ_SECONDS each
	scripts/run-fuzzers $(SANITIZE)/fuzz $(SHORT_FUZZ_SECONDS)

# The kernels' packages come from apt; without it and without a cache there is nothing to boot.
test-kmod-quick:
	@scripts/install-deps vm
	@if scripts/vm --print-kdir --kernel 6.1 >/dev/null && \
	  scripts/vm --print-kdir --kernel 6.12 >/dev/null; then \
	  tests/vm/run --quick --kernel 6.1 && tests/vm/run --quick --kernel 6.12; \
	else echo "left out: the module's tests (no kernel packages within reach)"; fi

test-kmod: ## Build the module and test it in virtual machines, on Debian 6.1 and 6.12
	@scripts/install-deps vm
	tests/vm/run --kernel 6.1
	tests/vm/run --kernel 6.12
	tests/vm/run --kernel 6.12 --without-zap --quick

test-vm: agent ## Test scripts/vm, engine attached and pools on devices in virtual machines (about an hour)
	@scripts/install-deps vm
	MEMPLATE_VM_TESTS=1 MEMPLATE_BUILD=$(abspath $(AGENT)) $(PYTEST) -q tests/vm

test-gpu: agent ## Run what memplate does with GPUs on a real one; skipped, with the reason, where there is none
	MEMPLATE_BUILD=$(abspath $(AGENT)) $(PYTEST) -q -rs tests/gpu

debug-kernel: ## Build a 6.1 kernel with KASAN, lockdep, kmemleak and fault injection (cached; 10-20 minutes)
	@scripts/install-deps vm
	scripts/debug-kernel

test-debug: debug-kernel ## Run the module's tests on it, fail every allocation once, and make random calls
	tests/vm/run --kernel debug
	tests/vm/run --kernel debug --fail-nth
	tests/vm/run --kernel debug --fuzz 60

lint: agent ## Check format, scripts and clang-tidy; files unchanged since they passed are skipped
	scripts/lint $(AGENT)

install: agent ## Install to DESTDIR and PREFIX (/usr/local)
	install -D -m 755 $(MEMPLATE) $(bindir)/memplate
	install -d $(libexecdir) $(libdir)
	install -m 755 $(AGENT)/memplate-keeper $(AGENT)/memplate-gpu-worker $(libexecdir)
	install -m 644 $(AGENT)/libmemplate-gpu-trace.so $(libdir)
	install -d $(completiondir) $(mandir) $(pricesdir)
	install -m 644 agent/prices/*.toml $(pricesdir)
	$(MEMPLATE) completion bash > $(completiondir)/memplate
	$(MEMPLATE) man --output $(mandir)

clean: ## Remove everything that was built
	rm -rf $(BUILD)

help: ## Show this list
	@awk -F ': .*## ' '/^[a-z][a-z0-9-]*: .*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile
