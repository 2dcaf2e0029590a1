package actions

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/engine"
	"certbook/engine/host/hosttest"
)

// TestStashReverts puts files back with their owner and mode, passes over what
// is as it was, and does not stop at a file that cannot be put back.
func TestStashReverts(t *testing.T) {
	h, at := rooted(t)
	put(t, at("/a"), "old a", 0o640)
	put(t, at("/b"), "old b", 0o600)
	s := stash{dir: "/stash"}
	ctx := t.Context()
	require.NoError(t, s.write(ctx, h, "/a", []byte("new a"), engine.FileOptions{Mode: 0o600}))
	require.NoError(t, s.write(ctx, h, "/a", []byte("newer a"), engine.FileOptions{}))
	require.NoError(t, s.write(ctx, h, "/b", []byte("new b"), engine.FileOptions{}))
	require.NoError(t, s.write(ctx, h, "/c", []byte("new c"), engine.FileOptions{}))
	require.NoError(t, s.revert(ctx, h))
	require.Equal(t, "old a", text(t, at("/a")))
	require.Equal(t, "old b", text(t, at("/b")))
	require.NoFileExists(t, at("/c"))
	f, err := one(ctx, h, "/a")
	require.NoError(t, err)
	require.EqualValues(t, 0o640, f.Mode)
	was := f.ModTime
	require.NoError(t, s.revert(ctx, h))
	f, err = one(ctx, h, "/a")
	require.NoError(t, err)
	require.Equal(t, was, f.ModTime, "what is as it was is not written")
}

func TestStashGoesOn(t *testing.T) {
	f := hosttest.NewFake()
	f.Handle("sh", func(_ context.Context, c engine.Command) (engine.Output, error) {
		if strings.Contains(c.Argv[2], "cmp -s") {
			return engine.Output{Stdout: []byte("0\n1\n2\n")}, nil
		}
		return engine.Output{}, nil
	})
	for _, p := range []string{"/a", "/b", "/c"} {
		f.Put(p, []byte("old"))
	}
	s := stash{dir: "/stash"}
	for _, p := range []string{"/a", "/b", "/c"} {
		require.NoError(t, s.write(t.Context(), f, p, []byte("new"), engine.FileOptions{}))
	}
	f.Advance(time.Second)
	f.Fail("Install", 1, errors.New("together"))
	f.Fail("Install", 3, errors.New("boom"))
	err := s.revert(t.Context(), f)
	require.ErrorContains(t, err, "/b: install /stash/b as /b: boom; its old version is /stash/b")
	for p, want := range map[string]string{"/a": "old", "/b": "new", "/c": "old"} {
		file, _ := f.File(p)
		require.Equal(t, want, string(file.Data), p)
	}
}
