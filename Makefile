# The targets people type. Run "make" to list them.
.DEFAULT_GOAL := help
GO     ?= go
LINTER := tools/bin/golangci-lint
BUILD  := $(shell git describe --always --tags --dirty --abbrev=12 2>/dev/null)

help: ## list targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

build: ## bin/tnode and bin/tarbitrator
	$(GO) build -trimpath -ldflags "-X github.com/tarbitrator/tarbitrator/internal/version.build=$(BUILD)" -o bin/ ./cmd/...

demo: build ## a whole pair on this machine, with real failovers, under a minute
	bin/tnode demo

test: ## fast tests: no root, no network, under three minutes
	$(GO) test ./...

check: build lint test race sim powercut faults replace failovers chaos stale ## what CI runs, under twenty minutes

race: ## the same tests under the race detector
	$(GO) test -race ./...

lint: $(LINTER) ## golangci-lint and the tree's own checks
	$(LINTER) run ./...
	$(GO) test -count=1 ./test/lint

sim: ## seeded simulation: FROM= SEEDS= for a range, else 240 s and every seed that ever failed
	$(GO) run ./test/sim $(if $(SEEDS),-from $(or $(FROM),1) -seeds $(SEEDS),-for 240s)

powercut: ## cut the power of a real file system under the log and the stores (root)
	@if [ "$$(id -u)" = 0 ]; then $(GO) test -count=1 -run PowerCut ./internal/wal/... ./vnode/...; \
	else echo "powercut: skipped, it needs root (loop devices)"; fi

failovers: ## hurt the master in every way, and ask why it switched: ROUNDS= (root)
	$(GO) test -count=1 ./test/failovers -rig -rounds $(or $(ROUNDS),1)

chaos: build ## break real processes under load; histories, rows and digests are checked: DURATION= (or ROUNDS=) SEED= (root)
	@if [ "$$(id -u)" = 0 ]; then $(GO) run ./test/chaos $(if $(ROUNDS),-rounds $(ROUNDS),-for $(or $(DURATION),60s)) $(if $(SEED),-seed $(SEED)); \
	else echo "chaos: skipped, it needs root (network namespaces, disks)"; fi

stale: build ## plant stale reads into a copy of the programs: chaos must find them (root)
	@if [ "$$(id -u)" = 0 ]; then $(GO) run ./test/chaos -plant=test/sim/planted/local-read.patch -fault=freeze -for=90s; \
	else echo "stale: skipped, it needs root (network namespaces, disks)"; fi

faults: ## every row of docs/operate/faults.md on real programs (root)
	$(GO) test -count=1 ./test/faults -rig -parallel 3

replace: ## hosts, disks, arbitrators and replicas replaced, on real programs
	$(GO) test -count=1 ./test/e2e -run "Restore|Replace|Replica|Threshold|Wiped|Fire|(Three|Four)Hosts|Absence|HalfOpen" -long -parallel 3

bench: build ## every figure of docs/benchmarks: hot paths, consensus, faults, copies, the arbitrator's cost, 300 power cuts, planted bugs (root, an idle machine)
	$(GO) test -run xxx -bench . -benchtime 1s ./internal/sql ./internal/wal ./consensus ./vnode ./node/api/rest
	$(GO) build -o bin/bench/ ./test/bench/...
	bin/bench/consensus
	bin/bench/consensus -groups 16
	bin/bench/consensus -flight 1
	bin/bench/consensus -lag 10000 -total 10000000
	bin/bench/consensus -lag 10000000
	bin/bench/ingest
	bin/bench/arbitrator
	bin/bench/faults
	bin/bench/copy
	$(GO) test -count=1 -run PowerCut ./internal/wal -cycles 300
	$(GO) run ./test/sim/plant

$(LINTER): tools/go.mod
	cd tools && $(GO) build -trimpath -o bin/ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	touch $@

.PHONY: help build demo test check race lint sim powercut faults replace failovers chaos stale bench
