GO      ?= go
BUF     := $(GO) tool -modfile=tools/buf/go.mod buf
LINT    := $(GO) tool -modfile=tools/lint/go.mod golangci-lint
BENCH   ?= .
PACKAGE ?= ./lock

# The tools' own caches stay in this folder; git ignores them.
export GOLANGCI_LINT_CACHE := $(CURDIR)/.cache/golangci-lint
export BUF_CACHE_DIR       := $(CURDIR)/.cache/buf

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Compile everything, and the conclave binary into bin/
	$(GO) build ./...
	$(GO) build -o bin/ ./cmd/conclave

.PHONY: test
test: ## Run all tests
	$(GO) test ./...

.PHONY: race
race: ## Run the libraries' tests under the race detector, in shuffled order
	.ci/run race

.PHONY: rules
rules: ## Check the rules of the house alone
	$(GO) test ./internal/rules

.PHONY: update
update: ## Bring documentation snippets and golden lists up to date
	$(GO) test ./internal/rules -update

.PHONY: lint
lint: ## Run the linters (the first run builds them: about a minute)
	$(LINT) run ./...

.PHONY: fmt
fmt: ## Format Go and protobuf files
	$(LINT) fmt ./...
	$(BUF) format -w

.PHONY: generate
generate: ## Generate Go from .proto files
	$(BUF) lint
	$(BUF) generate
	for dir in examples/*/proto examples/*/*/proto; do $(BUF) generate $$dir --template examples/buf.gen.yaml -o $$dir || exit; done

.PHONY: vet-cross
vet-cross: ## Vet the libraries for macOS and Windows
	.ci/run vet-cross

.PHONY: bench
bench: ## Run benchmarks: make bench PACKAGE=./lock BENCH=Handover
	$(GO) test -run '^$$' -bench '$(BENCH)' $(PACKAGE)

.PHONY: soak
soak: ## Run the long fault tests: tens of minutes
	CONCLAVE_SOAK=1 .ci/run soak

.PHONY: ci
ci: ## Run everything that CI runs
	.ci/run

.PHONY: clean
clean: ## Remove what this Makefile built, and the tools' caches
	rm -rf bin .cache
