package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"certbook/engine/host/hosttest"

	"github.com/stretchr/testify/require"
)

// TestAuditPage runs every command of docs/audit.md, in their order: each block
// in a shell of its own. Only the playbook and the run directory are others, the
// passphrase is empty, and there is one run at a time: two within a second have
// no order.
func TestAuditPage(t *testing.T) {
	hosttest.Needs(t, "bash", "ssh-keygen", "sha256sum")
	page, err := os.ReadFile("../../docs/audit.md")
	require.NoError(t, err)
	dir := t.TempDir()
	runs := filepath.Join(dir, "runs")
	for name, text := range map[string]string{
		"p.yaml":         "version: 1\nname: p\nplays: [{name: one, hosts: all, steps: [{id: one, action: run-command, with: {argv: ['true']}}]}]\n",
		"inventory.yaml": "version: 1\nhosts: {m1: {connection: local, root: .}}\n",
		"prelude.sh": `set -eu
certbook() {
	case $1 in
	run) shift; rm -rf "$RUNS"; command certbook run ./p.yaml --yes --run-dir "$RUNS" "$@" ;;
	*) command certbook "$@" --run-dir "$RUNS" ;;
	esac
}
ssh-keygen() {
	case $1 in -t) set -- -q -N '' "$@" ;; esac
	command ssh-keygen "$@"
}
`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	shell := func(block string) string {
		cmd := exec.CommandContext(t.Context(), "bash", "-c", ". ./prelude.sh\n"+strings.ReplaceAll(block, "/var/lib/certbook/runs", runs))
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "RUNS="+runs, "HOME="+dir)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s\n%s", block, out)
		return string(out)
	}
	shell("certbook run -i inventory.yaml") // the page begins after a run
	var outputs []string
	for _, part := range strings.Split(string(page), "\n```sh\n")[1:] {
		block, _, closed := strings.Cut(part, "\n```\n")
		require.True(t, closed)
		outputs = append(outputs, shell(block))
	}
	require.Len(t, outputs, 6)
	require.Regexp(t, `^9 lines, head [0-9a-f]{64}\n$`, outputs[1])
	require.Contains(t, outputs[3], "\ncheckpoints 2, signed by ops@example.org\n")
	require.Equal(t, 2, strings.Count(outputs[4], `Good "certbook-audit" signature for ops@example.org with ED25519 key`))
	require.True(t, strings.HasSuffix(outputs[4], "\nsigned to the end\n"), outputs[4])
	require.Contains(t, outputs[5], "\nm1: agrees: 9 lines\n")
}
