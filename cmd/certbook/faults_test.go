package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"certbook/engine/host/hosttest"

	"github.com/stretchr/testify/require"
)

// TestSudoStops takes the right to use sudo away in the middle of a renewal:
// nothing more can be changed there, not even by a rollback, and the run says so.
// When sudo works again, resume and rollback do too.
func TestSudoStops(t *testing.T) {
	fresh := due(t, "1.34.4")
	user := hosttest.SudoUser(t, "")
	rule := filepath.Join("/etc/sudoers.d", user)
	granted, err := os.ReadFile(rule)
	require.NoError(t, err)
	for _, before := range []string{"renew", "kubelet_conf"} {
		for _, cure := range []string{"resume", "rollback"} {
			t.Run(fmt.Sprintf("before %s, %s", before, cure), func(t *testing.T) {
				m := as(t, remoteFor(t, fresh.Copy(t), user), user)
				old, was := certificates(t, m.tree), snapshot(t, m.tree)
				file := filepath.Join(t.TempDir(), "overlay.yaml")
				require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `version: 1
name: trap
insert:
  - before: %s
    steps:
      - {id: withdraw, action: run-command, with: {argv: [mv, -f, %s, %s], creates: %[3]s}}
  - before: result
    steps:
      - {id: change, action: run-command, with: {argv: ["true"]}}
`, before, rule, "/tmp/"+user), 0o600))
				t.Cleanup(func() { os.Remove("/tmp/" + user) })
				code, _, stderr := m.run(t, "run", "renew", "-f", file)
				require.Contains(t, []int{1, 5}, code, stderr)
				require.Contains(t, stderr, "sudo")
				runs, err := filepath.Glob(filepath.Join(m.dir, "*"))
				require.NoError(t, err)
				require.Len(t, runs, 1)
				require.NoError(t, os.WriteFile(rule, granted, 0o440))
				m.cure(t, filepath.Base(runs[0]), cure, old, was)
			})
		}
	}
}

// as reaches a machine as another user than root.
func as(t *testing.T, m machine, user string) machine {
	t.Helper()
	text, err := os.ReadFile(m.flags[1])
	require.NoError(t, err)
	inventory := filepath.Join(t.TempDir(), "inventory.yaml")
	changed := strings.Replace(string(text), "user: root", "sudo: auto, user: "+user, 1)
	require.NotEqual(t, string(text), changed)
	require.NoError(t, os.WriteFile(inventory, []byte(changed), 0o600))
	m.flags = append([]string{"-i", inventory}, m.flags[2:]...)
	return m
}
