# The front door: each target is one script of tools/. CMake and Ninja build.

prefix ?= /usr/local

.DEFAULT_GOAL := help
.PHONY: help build models run test chaos bench package install lint format fuzz clean distclean

help: ## this list
	@awk -F ': *## *' '/^[a-z]+: *##/ { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

build: ## the program at build/slipway
	@tools/build

models: ## the example models at build/models
	@tools/models

run: ## build, start on 127.0.0.1:8400 (LISTEN=...), deploy an example model, serve until Ctrl-C
	@tools/run

test: ## build and run every test
	@tools/test

chaos: ## kill a process 1,000 times under re-indexes, and check every answer (SLIPWAY_CHAOS_SEED=, SLIPWAY_CHAOS_KILLS=)
	@tools/chaos

bench: ## measure, and write bench/RESULTS.md
	@tools/bench

package: ## Debian packages in build/package
	@tools/package

install: ## program, library, header, manual and completion under prefix=/usr/local (DESTDIR=...)
	@tools/build
	@cmake --install build --prefix "$(prefix)"

lint: ## the may-use table, formatting, clang-tidy
	@tools/lint --tidy

format: ## format the C sources
	@tools/lint --fix

fuzz: ## fuzz each parser for SECONDS_EACH=60
	@tools/fuzz

clean: ## remove what was built, models and state included, but not what was fetched
	@[ ! -d build ] || find build -mindepth 1 -maxdepth 1 ! -name deps -exec rm -rf {} +

distclean: ## remove everything
	@rm -rf build
