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
		return h, t.TempDir()
	})
}

func TestLocalRoot(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a root's [directory] *")
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
