# The commands of this project. `make` lists them.
BIN := bin/certbook
FUZZTIME ?= 10m

.DEFAULT_GOAL := help
.PHONY: help build demo test bench fuzz lint schemas clean lab-up lab-down lab-reset e2e e2e-all faults

help: ## list the commands
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

build: ## build bin/certbook
	go build -trimpath -o $(BIN) ./cmd/certbook

demo: build ## renew a sandbox of three masters; needs only Go
	$(BIN) demo

test: ## set up what the tests need and run them all
	@sh lab/test.sh

bench: ## measure a check of many hosts and the engine beside the floor and what else is installed; as root
	go run ./lab/kubeadm/build >/dev/null
	go test -tags bench -count=1 -timeout 60m ./lab/bench -v $(if $(RUN),-run '$(RUN)')

fuzz: ## fuzz what reads documents, hosts and logs, each for FUZZTIME (10m)
	@FUZZTIME=$(FUZZTIME) sh lab/fuzz.sh

lint: ## gofmt, go vet, golangci-lint, shipped playbooks, generated schemas
	@sh lab/lint.sh

lab-up: ## start a real cluster of three masters; as root on Debian
	go run ./lab up

lab-reset: ## bring it back to what it was after lab-up
	go run ./lab reset

lab-down: ## remove it
	go run ./lab down

faults: ## cut a renewal off at every point, and see what is left of it
	@sh lab/faults.sh

e2e: ## run the scenarios on the lab; RUN=TestName for one
	go test -tags e2e -count=1 -timeout 75m -short -v $(if $(RUN),-run '$(RUN)') ./lab/e2e

e2e-all: ## with those that take long: docker, everything restarted, figures of restarts, rollback, more faults
	go test -tags e2e -count=1 -timeout 120m -v $(if $(RUN),-run '$(RUN)') ./lab/e2e

schemas: build ## generate the JSON Schemas anew
	for k in playbook overlay inventory secrets; do $(BIN) schema $$k > schema/$$k.schema.json; done

clean: ## remove what was built
	rm -rf bin
