package host_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"certbook/engine"
	"certbook/engine/host"
	"certbook/engine/host/hosttest"
)

func TestLocal(t *testing.T) {
	hosttest.Run(t, func(t *testing.T) (engine.Host, string) {
		h, err := host.Local(t.Context(), host.LocalOptions{})
		require.NoError(t, err)
		return h, scratch(t)
	})
}

func TestLocalRoot(t *testing.T) {
	root := filepath.Join(scratch(t), "a root's [directory] *")
	require.NoError(t, os.Mkdir(root, 0o700))
	hosttest.Run(t, func(t *testing.T) (engine.Host, string) {
		h, err := host.Local(t.Context(), host.LocalOptions{Root: root})
		require.NoError(t, err)
		return h, "/"
	})
	require.FileExists(t, filepath.Join(root, "write/plain"))
}

func TestFake(t *testing.T) {
	hosttest.Run(t, func(t *testing.T) (engine.Host, string) {
		f := hosttest.NewFake()
		f.Handle("sleep", func(ctx context.Context, _ engine.Command) (engine.Output, error) {
			<-ctx.Done()
			return engine.Output{Code: -1}, ctx.Err()
		})
		return f, "/work"
	})
}

// scratch returns a directory in memory when there is one: the suite syncs
// many files, and a disk may be busy.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "certbook-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
