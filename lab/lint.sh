#!/bin/sh
# make lint: what must be true of the source before it is committed.
set -eu
cd "$(dirname "$0")/.."
unformatted=$(gofmt -l $(git ls-files '*.go'))
[ -z "$unformatted" ] || { echo "gofmt -w $unformatted" >&2; exit 1; }
go vet ./...
go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0 run ./...
go run ./cmd/certbook lint
for e in docker systemd kubespray; do
	go run ./cmd/certbook lint -i playbooks/examples/$e/inventory.yaml -f playbooks/examples/$e/overlay.yaml
done
go run ./cmd/certbook lint -i playbooks/examples/external-etcd/inventory.yaml
for k in playbook overlay inventory secrets; do
	go run ./cmd/certbook schema $k | cmp -s - schema/$k.schema.json || { echo "schema/$k.schema.json is not what it should be: make schemas" >&2; exit 1; }
done
