#!/bin/sh
# make faults: cut a renewal off at every point (SIGKILL of the controller), and
# by everything else that can happen to a host or its connection, and print how
# many of these were survived. First against real kubeadm and sshd on this
# machine, then a sample on the lab. As root; it takes an hour or so, and leaves
# the lab running.
set -u
cd "$(dirname "$0")/.."
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
status=0

# faults LOG TESTS: against what runs on this machine.
faults() {
	FAULTS=all CI=true go test -count=1 -timeout 180m -v -run "$2" ./cmd/certbook >>"$logs/$1" || status=1
}

# on_lab LOG TESTS
on_lab() {
	go test -tags e2e -count=1 -timeout 60m -v -run "$2" ./lab/e2e >>"$logs/$1" || status=1
}

# count TITLE LOG: counts the tests that have no others below them.
count() {
	awk -v title="$1" '
	{ sub(/^ +/, "") }
	/^--- (PASS|FAIL|SKIP): / {
		name = $0; sub(/^--- [A-Z]+: /, "", name); sub(/ \([0-9.]+s\)$/, "", name)
		result[name] = $2
		while (match(name, /\/[^\/]*$/)) { name = substr(name, 1, RSTART - 1); parent[name] = 1 }
	}
	END {
		for (name in result) if (!(name in parent)) {
			all++
			if (result[name] == "PASS:") good++
			else print result[name], name
		}
		printf "%s: %d, survived: %d\n", title, all, good
		exit all == 0 || good < all
	}' "$logs/$2" || { status=1; grep -A 20 'Error Trace' "$logs/$2" | cut -c 1-2000 >&2; }
}

faults crash '^TestCrash'
faults cuts '^(TestCut|TestPause|TestSudoStops|TestTrapNoRoom|TestTrapKubeadmEnds)$|^TestTrapsRefused$/^clock'
on_lab crash '^(TestDeadMansSwitch|TestCutInTheMiddle)$/^controller'
on_lab cuts '^TestCutInTheMiddle$/^(node|kubelet)'
on_lab cuts '^TestUnhealthyAfterRestart$'
count "crash points" crash
count "cuts" cuts
exit $status
