package actions

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/engine/host"
)

// TestArm lets the host move a manifest back by itself, unless it is told not
// to.
func TestArm(t *testing.T) {
	root := t.TempDir()
	h, err := host.Local(t.Context(), host.LocalOptions{Root: root})
	require.NoError(t, err)
	park := func(name string) (parked, home string) {
		parked, home = "/"+name+"@parked", "/"+name+".yaml"
		require.NoError(t, os.WriteFile(filepath.Join(root, parked), []byte("x"), 0o600))
		return parked, home
	}
	left, leftHome := park("left")
	_, err = arm(t.Context(), h, left, leftHome, time.Second)
	require.NoError(t, err)
	kept, keptHome := park("kept")
	disarm, err := arm(t.Context(), h, kept, keptHome, time.Second)
	require.NoError(t, err)
	disarm()
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(root, leftHome))
		return err == nil
	}, 30*time.Second, 20*time.Millisecond)
	require.NoFileExists(t, filepath.Join(root, left))
	require.FileExists(t, filepath.Join(root, kept), "it was called off")
	require.NoFileExists(t, filepath.Join(root, keptHome))
}
