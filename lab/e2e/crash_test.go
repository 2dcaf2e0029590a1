//go:build e2e

package e2e_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestDeadMansSwitch kills the controller while a manifest is moved out. The
// host moves it back by itself, and resume goes on.
func TestDeadMansSwitch(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits as long as a host waits for its controller: make e2e-all")
	}
	reset(t)
	require.NoError(t, lab.Expire(t.Context(), 24*time.Hour, lab.Nodes...))
	before := serials(t)
	n := lab.Nodes[0]
	overlay := filepath.Join(t.TempDir(), "overlay.yaml")
	require.NoError(t, os.WriteFile(overlay, []byte("version: 1\nname: moves\nsteps:\n- {id: restart, with: {method: manifest, wait: 5s}}\n"), 0o644))
	runs := filepath.Join(t.TempDir(), "runs")
	cmd := exec.CommandContext(t.Context(), certbook, "run", "-i", lab.Path("inventory.yaml"), "-f", overlay, "--yes", "--run-dir", runs)
	require.NoError(t, cmd.Start())
	const away = "ls /var/lib/certbook/parked/*/* 2>/dev/null"
	eventually(t, 2*time.Minute, func() error {
		_, err := lab.Shell(t.Context(), n, away)
		return err
	})
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait() // it was killed

	eventually(t, 3*time.Minute, func() error {
		if out, err := lab.Shell(t.Context(), n, away); err == nil {
			return errors.New("still away: " + out)
		}
		return lab.Healthy(t.Context())
	})
	code, stdout, stderr, _ := call(t, "resume", "--yes", "--run-dir", runs)
	require.Zero(t, code, "%s%s", stdout, stderr)
	requireServed(t, before)
	requireWorks(t)
}

// TestRollback brings all masters back to their old certificates, which are
// still good, and then forward again.
func TestRollback(t *testing.T) {
	if testing.Short() {
		t.Skip("a renewal and two rollbacks: make e2e-all; cmd/certbook does them with real kubeadm")
	}
	reset(t)
	require.NoError(t, lab.Expire(t.Context(), 24*time.Hour, lab.Nodes...))
	before := serials(t)
	runs := filepath.Join(t.TempDir(), "runs")
	step := func(args ...string) {
		code, stdout, stderr, took := call(t, append(args, "--yes", "--run-dir", runs)...)
		require.Zero(t, code, "%s%s", stdout, stderr)
		figures(t, "%s: %.1f s", args[0], took.Seconds())
	}
	newest := func() string {
		list, err := filepath.Glob(filepath.Join(runs, "*"))
		require.NoError(t, err)
		return filepath.Base(list[len(list)-1])
	}
	step("run", "-i", lab.Path("inventory.yaml"))
	renewed := serials(t)
	requireServed(t, before)

	step("rollback", newest())
	require.Equal(t, before, serials(t))
	requireServesDisk(t)
	requireWorks(t)

	step("rollback", newest())
	require.Equal(t, renewed, serials(t))
	requireServed(t, before)
	requireWorks(t)
	require.NotEmpty(t, newest())
}
