#!/bin/sh
# make faults: cut a renewal off at every point (SIGKILL of the controller), and
# by everything else that can happen to a host or its connection, and print how
# many of these were survived. As root; it takes an hour or so.
set -u
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# faults TITLE TESTS: runs the tests and counts those that have no others below them.
faults() {
	FAULTS=all CI=true go test -count=1 -timeout 180m -v -run "$2" ./cmd/certbook >"$log" || status=1
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
	}' "$log" || { status=1; grep -A 20 'Error Trace' "$log" | cut -c 1-2000 >&2; }
}

status=0
faults "crash points" '^TestCrash'
faults "cuts" '^(TestCut|TestPause|TestSudoStops|TestTrapNoRoom|TestTrapKubeadmEnds)$|^TestTrapsRefused$/^clock'
exit $status
