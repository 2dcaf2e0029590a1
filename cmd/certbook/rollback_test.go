package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"certbook/lab/kubeadm"

	"github.com/stretchr/testify/require"
)

// newest returns the id of the newest run.
func (m machine) newest(t *testing.T) string {
	t.Helper()
	runs, err := filepath.Glob(filepath.Join(m.dir, "*"))
	require.NoError(t, err)
	require.NotEmpty(t, runs)
	return filepath.Base(runs[len(runs)-1])
}

// rollback brings a run back on a machine on which nothing runs.
func (m machine) rollback(t *testing.T, run string, more ...string) (code int, stderr string) {
	t.Helper()
	args := append([]string{"rollback", run, "--yes", "--run-dir", m.dir, "--set", "restart=none", "--set", "verify_served=false"}, m.flags[2:]...)
	code, _, stderr = certbook(t, append(args, more...)...)
	return code, stderr
}

// TestRollbackRefuses brings nothing back that was not saved so, that others
// have changed since, or that has ended; the latter two when forced.
func TestRollbackRefuses(t *testing.T) {
	t.Parallel()
	fresh := due(t, "1.34.4")
	ended := fresh.Copy(t)
	kubeadm.Reissue(t, ended, []string{"apiserver"}, time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour))
	const apiserver = "/etc/kubernetes/pki/apiserver.crt"
	for name, c := range map[string]struct {
		tree  kubeadm.Tree
		spoil func(t *testing.T, m machine, run string)
		want  string
		force bool // helps
	}{
		"has ended": {ended, func(*testing.T, machine, string) {}, "apiserver.crt holds a certificate that has ended 1h", true},
		"changed since": {fresh, func(t *testing.T, m machine, _ string) {
			require.NoError(t, os.WriteFile(m.tree.Path(apiserver), []byte("another"), 0o644))
		}, apiserver + " was changed since the run", true},
		"old version was changed": {fresh, func(t *testing.T, m machine, run string) {
			require.NoError(t, os.WriteFile(m.tree.Path("/var/lib/certbook/replaced/"+run+"/renew"+apiserver), []byte("another"), 0o644))
		}, "is not what it was", false},
		"old version has gone": {fresh, func(t *testing.T, m machine, run string) {
			require.NoError(t, os.Remove(m.tree.Path("/var/lib/certbook/replaced/"+run+"/renew"+apiserver)))
		}, "is not what it was", false},
		"all has gone": {fresh, func(t *testing.T, m machine, run string) {
			require.NoError(t, os.RemoveAll(m.tree.Path("/var/lib/certbook/replaced/"+run)))
		}, "nothing is kept in /var/lib/certbook/replaced/", false},
		"the list was changed": {fresh, func(t *testing.T, m machine, run string) {
			dir := m.tree.Path("/var/lib/certbook/replaced/" + run + "/renew")
			other := []byte("another")
			require.NoError(t, os.WriteFile(dir+apiserver, other, 0o644))
			list, err := os.ReadFile(dir + "/.certbook-files")
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(dir+"/.certbook-files", relist(t, list, apiserver, other), 0o600))
		}, "does not agree with the run's log", false},
	} {
		t.Run(name, func(t *testing.T) {
			m := local(t, c.tree.Copy(t))
			was := snapshot(t, m.tree)
			code, _, stderr := m.run(t, "run", "renew")
			require.Zero(t, code, stderr)
			run := m.newest(t)
			c.spoil(t, m, run)
			before := snapshot(t, m.tree)
			code, stderr = m.rollback(t, run)
			require.Equal(t, 1, code)
			require.Contains(t, stderr, c.want)
			require.Equal(t, before, snapshot(t, m.tree))
			code, stderr = m.rollback(t, run, "--force")
			if !c.force {
				require.Equal(t, 1, code)
				require.Contains(t, stderr, c.want)
				require.Equal(t, before, snapshot(t, m.tree))
				return
			}
			require.Zero(t, code, stderr)
			require.Equal(t, was, snapshot(t, m.tree))
		})
	}
}

// relist puts another hash into a list of replaced files.
func relist(t *testing.T, list []byte, file string, content []byte) []byte {
	t.Helper()
	out := regexp.MustCompile(`(?m)^(\d+\t)[0-9a-f]{64}(\t[0-9a-f]{64}\t`+regexp.QuoteMeta(file)+`)$`).
		ReplaceAll(list, fmt.Appendf(nil, "${1}%x${2}", sha256.Sum256(content)))
	require.NotEqual(t, list, out)
	return out
}

// TestRollbackKubelet brings the kubelet's certificate back, whether it was a
// link, a file, or not there.
func TestRollbackKubelet(t *testing.T) {
	t.Parallel()
	fresh := kubeadm.Layout(t, kubeadm.Options{Version: "1.34.4", KubeletEmbedded: true, Endpoint: "127.0.0.1:7"})
	kubeadm.Reissue(t, fresh, []string{"kubelet.conf"}, time.Now().Add(-366*24*time.Hour), time.Now().Add(-24*time.Hour))
	const current = "/var/lib/kubelet/pki/kubelet-client-current.pem"
	for name, set := range map[string]func(*testing.T, kubeadm.Tree){
		"link":      func(t *testing.T, tree kubeadm.Tree) { rotated(t, tree, pair(t, tree)) },
		"not there": func(*testing.T, kubeadm.Tree) {},
		"file": func(t *testing.T, tree kubeadm.Tree) {
			require.NoError(t, os.WriteFile(tree.Path(current), pair(t, tree), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := local(t, fresh.Copy(t))
			require.NoError(t, os.MkdirAll(m.tree.Path(filepath.Dir(current)), 0o755)) // kubelet has made it
			set(t, m.tree)
			was := snapshot(t, m.tree)
			code, _, stderr := m.run(t, "run", "renew")
			require.Zero(t, code, stderr)
			renewed := snapshot(t, m.tree)
			require.NotEqual(t, was[current], renewed[current])
			code, stderr = m.rollback(t, m.newest(t), "--force") // what comes back has ended
			require.Zero(t, code, stderr)
			require.Equal(t, was, snapshot(t, m.tree))
			code, stderr = m.rollback(t, m.newest(t))
			require.Zero(t, code, stderr)
			require.Equal(t, renewed, snapshot(t, m.tree))
		})
	}
}

// TestRollbackThereAndBack undoes a run, and then that.
func TestRollbackThereAndBack(t *testing.T) {
	t.Parallel()
	for how, connect := range map[string]func(*testing.T, kubeadm.Tree) machine{"local": local, "ssh": remote} {
		t.Run(how, func(t *testing.T) {
			m := connect(t, due(t, "1.34.4"))
			was := snapshot(t, m.tree)
			code, _, stderr := m.run(t, "run", "renew")
			require.Zero(t, code, stderr)
			renewed := snapshot(t, m.tree)
			code, stderr = m.rollback(t, m.newest(t))
			require.Zero(t, code, stderr)
			require.Equal(t, was, snapshot(t, m.tree))
			second := m.newest(t)
			code, stderr = m.rollback(t, second)
			require.Zero(t, code, stderr)
			require.Equal(t, renewed, snapshot(t, m.tree))
			code, stdout, _ := certbook(t, "runs", "--run-dir", m.dir)
			require.Zero(t, code)
			require.Contains(t, stdout, "brought back "+second)
		})
	}
}
