#!/bin/sh
# make fuzz: run every fuzz target for FUZZTIME (10m), one after the other, and
# print a line for each. An input that fails is left in testdata/fuzz beside
# the test, where `go test` runs it from then on. FUZZ names some targets by a
# regular expression, FUZZPARALLEL the workers of one target.
set -u
cd "$(dirname "$0")/.."
time=${FUZZTIME:-10m} only=${FUZZ:-.} workers=${FUZZPARALLEL:-$(nproc)}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
printf '%-40s %12s %12s %10s\n' TARGET EXECUTIONS INTERESTING CRASHERS
for at in $(git grep --untracked -o '^func Fuzz[A-Za-z0-9]*' -- '*_test.go' | tr ' ' '@'); do
	dir=$(dirname "${at%%:*}") target=${at##*@}
	echo "$dir.$target" | grep -Eq -- "$only" || continue
	crashers() { ls "$dir/testdata/fuzz/$target" 2>/dev/null | wc -l; }
	before=$(crashers)
	failed=
	go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 1s -parallel "$workers" "./$dir" >"$log" 2>&1 || failed=1
	execs=$(sed -n 's/.*execs: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
	fresh=$(sed -n 's/.*new interesting: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
	found=$(($(crashers) - before))
	printf '%-40s %12s %12s %10s\n' "$dir.$target" "${execs:-0}" "${fresh:-0}" "$found"
	# Go before 1.27 now and then fails at the end of the time (go.dev/issue/75804).
	if [ "$found" = 0 ] && grep -qx ' *context deadline exceeded' "$log"; then failed=; fi
	if [ -n "$failed" ]; then
		status=1
		grep -v '^fuzz: elapsed' "$log" >&2
	fi
done
exit $status
