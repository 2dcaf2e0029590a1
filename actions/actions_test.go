package actions

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"certbook/engine"
	"certbook/engine/host"
)

// rooted returns a host whose root directory is a new temporary directory, and
// a function that tells where a path of the host lies on this machine.
func rooted(t *testing.T) (*host.Host, func(string) string) {
	t.Helper()
	root := t.TempDir()
	h, err := host.Local(t.Context(), host.LocalOptions{Root: root})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	return h, func(p string) string { return filepath.Join(root, p) }
}

// put writes a file and the directories above it.
func put(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	require.NoError(t, os.Chmod(file, mode))
}

func text(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(data)
}

// carryOut does what the engine does with a step that has something to change.
func carryOut(t *testing.T, a engine.Applier, h engine.Host) engine.Result {
	t.Helper()
	res, err := a.Check(t.Context(), h)
	require.NoError(t, err)
	require.NotEmpty(t, res.Changes, "there is something to change")
	require.NoError(t, a.Apply(t.Context(), h))
	res, err = a.Check(t.Context(), h)
	require.NoError(t, err)
	require.Empty(t, res.Changes, "nothing is left to change")
	return res
}

// requireClean proves that a new action of the same kind has nothing to do.
func requireClean(t *testing.T, a engine.Action, p engine.Probe) {
	t.Helper()
	res, err := a.Check(context.WithoutCancel(t.Context()), p)
	require.NoError(t, err)
	require.Empty(t, res.Changes)
	require.Empty(t, res.Done)
}

// needRoot skips a test that gives files to users.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	const why = "only root may give files away: run this test as root"
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}
