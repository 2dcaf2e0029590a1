package main

import (
	"fmt"
	"os/exec"
	"path"
	"testing"

	"certbook/engine"
	"certbook/engine/host/hosttest"

	"github.com/stretchr/testify/require"
)

// requireRolledBack proves that a run has failed and left nothing behind.
func requireRolledBack(t *testing.T, m machine, before map[string]entry, reverted ...string) {
	t.Helper()
	require.Equal(t, before, snapshot(t, m.tree))
	var steps []string
	events := m.log(t)
	for _, e := range events {
		require.NotEqual(t, engine.RevertFailed, e.Kind, e.Error)
		if e.Kind == engine.StepReverted {
			steps = append(steps, e.Step)
		}
	}
	require.Subset(t, steps, reverted)
	last := events[len(events)-1]
	require.Equal(t, engine.RunFinished, last.Kind)
	require.Equal(t, engine.OutcomeReverted, last.Outcome)
}

// TestTrapNotInUse renews where nothing serves the new certificates.
func TestTrapNotInUse(t *testing.T) {
	t.Parallel()
	m := local(t, due(t, "1.37.2"))
	before := snapshot(t, m.tree)
	code, _, stderr := m.run(t, append([]string{"run", "renew"},
		overlay(t, "- {id: verify, with: {enabled: true}, retry: {attempts: 2, delay: 10ms}}\n")...)...)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "kube-apiserver: 192.0.2.11:6443: ")
	requireRolledBack(t, m, before, "renew", "backup_pki", "backup_kubernetes")
}

// TestTrapImmutableFile cannot replace one file in the middle of the list.
func TestTrapImmutableFile(t *testing.T) {
	t.Parallel()
	fresh := due(t, "1.34.4")
	for _, name := range []string{"apiserver.crt", "etcd/peer.key", "../scheduler.conf"} {
		t.Run(name, func(t *testing.T) {
			m := local(t, fresh.Copy(t))
			file := m.tree.Path(m.tree.PKI + "/" + name)
			if out, err := exec.Command("chattr", "+i", file).CombinedOutput(); err != nil {
				hosttest.Lacks(t, fmt.Sprintf("this test needs files that can be made immutable: %v: %s", err, out))
			}
			t.Cleanup(func() { require.NoError(t, exec.Command("chattr", "-i", file).Run()) })
			before := snapshot(t, m.tree)
			code, _, stderr := m.run(t, "run", "renew")
			require.Equal(t, 1, code)
			require.Contains(t, stderr, "renew: install: "+path.Clean(m.tree.PKI+"/"+name)+": cannot be replaced: Operation not permitted\n")
			requireRolledBack(t, m, before, "renew", "backup_pki", "backup_kubernetes")
		})
	}
}
