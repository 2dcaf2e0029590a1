#!/bin/sh
# make test: set up what the tests need, then run them all. As root on Debian it
# installs what is missing; elsewhere it says what that leaves out. In CI a
# missing program fails the tests that need it instead.
set -eu
cd "$(dirname "$0")/.."

need() { # program, Debian package
	command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing="$missing $2"
}
missing=
need sshd openssh-server
need ssh-keygen openssh-client
need sudo sudo
need openssl openssl
need setfattr attr
need setfacl acl
need chattr e2fsprogs
need iptables iptables
need gcc gcc
if [ -n "$missing" ]; then
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
		echo "installing:$missing" >&2
		apt-get update -qq
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
	else
		echo "missing:$missing; the tests that need them are left out" >&2
	fi
fi
[ "$(id -u)" = 0 ] || echo "not root: the tests with real kubeadm and sshd are left out" >&2

# The real kubeadm binaries, built once into a cache outside the checkout.
[ "$(id -u)" != 0 ] || go run ./lab/kubeadm/build

race=-race
command -v gcc >/dev/null 2>&1 || race=
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
go test $race -count=1 -timeout 40m -json ./... >"$log" || status=$?
go run ./lab/tally "$log"
exit $status
