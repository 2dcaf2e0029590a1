#!/bin/sh
# make lint: what must be true of the source before it is committed.
set -eu
cd "$(dirname "$0")/.."
unformatted=$(gofmt -l $(git ls-files '*.go'))
[ -z "$unformatted" ] || { echo "gofmt -w $unformatted" >&2; exit 1; }
go vet ./...
go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...
go run ./cmd/certbook lint
for e in docker systemd kubespray; do
	go run ./cmd/certbook lint -i playbooks/examples/$e/inventory.yaml -f playbooks/examples/$e/overlay.yaml
done
