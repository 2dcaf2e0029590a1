//go:build e2e

package e2e_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTwoRuns starts runs beside one that works on the first master: none may
// work on that host, nor on the others of its cluster. When the controller of the
// first is gone, only its own resume goes on.
func TestTwoRuns(t *testing.T) {
	reset(t)
	require.NoError(t, lab.Expire(t.Context(), 24*time.Hour, lab.Nodes...))
	before := serials(t)
	dir := t.TempDir()
	overlay, runs, others := filepath.Join(dir, "overlay.yaml"), filepath.Join(dir, "runs"), filepath.Join(dir, "others")
	require.NoError(t, os.WriteFile(overlay, []byte(`version: 1
name: slow
insert:
- after: renew
  steps: [{id: slow, action: run-command, with: {argv: [sh, -c, "[ -e /run/slow ] || sleep 300"]}}]
`), 0o644))
	run := func(runs, limit string, more ...string) (int, string) {
		args := append([]string{"run", "-i", lab.Path("inventory.yaml"), "--yes", "--run-dir", runs, "--limit", limit}, more...)
		code, stdout, stderr, _ := call(t, args...)
		t.Logf("limit %s: exit %d\n%s", limit, code, stderr)
		return code, stdout + stderr
	}
	first := exec.CommandContext(t.Context(), certbook, "run", "-i", lab.Path("inventory.yaml"), "--yes", "--run-dir", runs, "--limit", "m1", "-f", overlay)
	require.NoError(t, first.Start())
	eventually(t, 2*time.Minute, func() error { return begun(runs, "m1", "slow") })

	code, said := run(others, "m1,m2")
	require.Equal(t, 1, code)
	require.Contains(t, said, "m1: locked by ")
	code, said = run(others, "m1,m2", "--break-lock")
	require.Equal(t, 1, code)
	require.Contains(t, said, "--break-lock breaks no lock of a living run")
	code, said = run(others, "m2,m3")
	require.Equal(t, 1, code)
	require.Contains(t, said, "the cluster is locked by ")
	code, said, _, _ = call(t, "locks", "-i", lab.Path("inventory.yaml"))
	require.Zero(t, code)
	require.Regexp(t, `(?m)^m1 +living `, said)

	require.NoError(t, first.Process.Kill())
	_ = first.Wait() // it was killed
	eventually(t, 30*time.Second, func() error {
		_, said, _, _ := call(t, "locks", "-i", lab.Path("inventory.yaml"))
		if !regexp.MustCompile(`(?m)^m1 +left `).MatchString(said) {
			return errors.New(said)
		}
		return nil
	})
	code, said = run(others, "m1")
	require.Equal(t, 1, code)
	require.Contains(t, said, "m1: left locked by ")
	code, said = run(others, "m2,m3")
	require.Equal(t, 1, code)
	require.Contains(t, said, "the cluster is locked by ")

	shell(t, lab.Nodes[0], "touch /run/slow")
	code, stdout, stderr, _ := call(t, "resume", "--yes", "--run-dir", runs)
	require.Zero(t, code, "%s%s", stdout, stderr)
	holder := shell(t, lab.Nodes[0], "kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system get lease certbook -o jsonpath='{.spec.holderIdentity}'")
	require.Empty(t, holder)
	code, said = run(others, "m2,m3")
	require.Zero(t, code, said)
	requireServed(t, before)
	_, said, _, _ = call(t, "locks", "-i", lab.Path("inventory.yaml"))
	require.NotRegexp(t, `living|left`, said)
}
