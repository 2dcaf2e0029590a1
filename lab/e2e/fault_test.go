//go:build e2e

package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/engine"
	"certbook/lab/cluster"
)

// TestCutInTheMiddle cuts a renewal off when it has come to a step of a master,
// and resumes it: by the end of the controller, by a master that stands still for
// a minute, by a kubelet that does not run any more.
func TestCutInTheMiddle(t *testing.T) {
	for _, c := range []struct {
		name, host, step string
		long             bool // only with e2e-all
		overlay          string
		cut              func(t *testing.T, n cluster.Node, run *exec.Cmd)
		mend             func(t *testing.T, n cluster.Node)
	}{
		{
			name: "controller killed", host: "m2", step: "restart",
			cut: func(t *testing.T, _ cluster.Node, run *exec.Cmd) { require.NoError(t, run.Process.Kill()) },
		},
		{
			name: "controller killed before", host: "m1", step: "renew", long: true,
			cut: func(t *testing.T, _ cluster.Node, run *exec.Cmd) { require.NoError(t, run.Process.Kill()) },
		},
		{
			name: "node paused for a minute", host: "m1", step: "backup_kubernetes", long: true,
			cut: func(t *testing.T, n cluster.Node, run *exec.Cmd) {
				require.NoError(t, lab.Fault(t.Context(), "paused", n))
				time.Sleep(time.Minute) // that is the fault
				require.NoError(t, lab.Unpause(t.Context(), n))
			},
		},
		{
			name: "kubelet stopped", host: "m1", step: "restart", overlay: "steps:\n- {id: restart, with: {wait: 20s}}\n",
			cut: func(t *testing.T, n cluster.Node, _ *exec.Cmd) {
				require.NoError(t, lab.Fault(t.Context(), "kubelet-down", n))
			},
			mend: func(t *testing.T, n cluster.Node) { shell(t, n, "systemctl start kubelet") },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.long && testing.Short() {
				t.Skip("make e2e-all")
			}
			reset(t)
			require.NoError(t, lab.Expire(t.Context(), 24*time.Hour, lab.Nodes...))
			before := serials(t)
			n := lab.Nodes[c.host[1]-'1']
			runs, flags := filepath.Join(t.TempDir(), "runs"), []string{}
			if c.overlay != "" {
				file := filepath.Join(t.TempDir(), "overlay.yaml")
				require.NoError(t, os.WriteFile(file, []byte("version: 1\nname: fault\n"+c.overlay), 0o644))
				flags = []string{"-f", file}
			}
			cmd := exec.CommandContext(t.Context(), certbook, append([]string{"run", "-i", lab.Path("inventory.yaml"), "--yes", "--run-dir", runs}, flags...)...)
			var said strings.Builder
			cmd.Stderr = &said
			require.NoError(t, cmd.Start())
			eventually(t, 2*time.Minute, func() error { return begun(runs, c.host, c.step) })
			c.cut(t, n, cmd)
			err := cmd.Wait()
			t.Logf("%v\n%s", err, said.String())
			if c.mend != nil {
				require.Error(t, err)
				c.mend(t, n)
			}
			if err != nil {
				code, stdout, stderr, took := call(t, "resume", "--yes", "--run-dir", runs)
				require.Zero(t, code, "%s%s", stdout, stderr)
				figures(t, "resume: %.1f s", took.Seconds())
			}
			requireServed(t, before)
			for _, n := range lab.Nodes {
				requireYounger(t, n, "kube-controller-manager", "/etc/kubernetes/controller-manager.conf")
				requireYounger(t, n, "kube-scheduler", "/etc/kubernetes/scheduler.conf")
			}
			eventually(t, time.Minute, func() error { return lab.Healthy(t.Context()) })
			requireWorks(t)
			code, stdout, stderr, _ := call(t, "audit", "verify", "--run-dir", runs)
			require.Zero(t, code, "%s%s", stdout, stderr)
		})
	}
}

// begun is nil when a run is about to change what a step changes.
func begun(runs, host, step string) error {
	logs, err := filepath.Glob(filepath.Join(runs, "*", "audit.jsonl"))
	if err != nil || len(logs) == 0 {
		return errors.Join(err, errors.New("no log"))
	}
	text, err := os.ReadFile(logs[0])
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		var e engine.Event
		if json.Unmarshal([]byte(line), &e) == nil && e.Kind == engine.StepIntent && e.Host == host && e.Step == step {
			return nil
		}
	}
	return fmt.Errorf("%s has not begun on %s", step, host)
}
