# The front door. Each verb does its own set-up (scripts/setup) and says what it is doing.
.DEFAULT_GOAL := help
.PHONY: help demo test cluster cluster-down test-cluster conformance bench compare lint fuzz image clean setup
SCENARIO ?=
SECONDS ?= 30
HOLD ?=

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## two tenants, five pods, real servers, captured traffic; two minutes, leaves nothing behind
	@scripts/setup demo
	@scripts/demo $(if $(HOLD),--hold)

test: ## every test, on real network namespaces and a real kernel
	@scripts/setup test
	@scripts/test

cluster: ## a real Kubernetes of two nodes, built from source the first time (nine minutes), then up in 15 s
	@scripts/setup cluster
	@scripts/cluster up

cluster-down: ## stop it, with all that it made
	@scripts/cluster down

test-cluster: ## the tests that need a real Kubernetes, on the one that is up or on one of their own
	@scripts/setup build
	@scripts/setup cluster
	@scripts/test-cluster

conformance: ## Gateway API's conformance suite for meshes, against Canopy on the cluster that is up
	@scripts/setup cluster
	@scripts/conformance

bench: ## measure against Envoy; one scenario with SCENARIO=http|http2|tcp|capture|mtls|memory|noisy-neighbour|tenants|budgets|tiers|denials|routes|churn|scale|cluster|forms|compare-latency|compare-throughput|compare-resources|compare-noisy|compare-hops|compare-capture|compare-blast
	@scripts/setup bench
	@scripts/bench $(SCENARIO)

compare: ## node proxies beside sidecars, Canopy's and Envoy's: latency, throughput, resources, neighbours, faults
	@scripts/setup bench
	@scripts/bench compare

lint: ## format, clippy, rustdoc, licences, size and shape
	@scripts/setup lint
	@scripts/lint

fuzz: ## every fuzz target for SECONDS=30 each
	@scripts/setup fuzz
	@SECONDS_EACH=$(SECONDS) scripts/fuzz

image: ## the container image, at most 30 MiB, and its list of parts: target/image
	@scripts/setup image
	@scripts/image

setup: ## only the set-up: packages, bpf-linker, cargo-deny
	@scripts/setup test
	@scripts/setup lint

clean: ## remove what was built, and what a crashed demo or test left on the machine
	@scripts/clean
