package hosttest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/engine"
	"certbook/engine/host/hosttest"
)

func TestFakeFails(t *testing.T) {
	f := hosttest.NewFake()
	boom := errors.New("boom")
	f.Fail("WriteFile", 2, boom)
	f.Mkdir("/d")
	require.NoError(t, f.WriteFile(t.Context(), "/d/a", []byte("1"), engine.FileOptions{}))
	require.ErrorIs(t, f.WriteFile(t.Context(), "/d/a", []byte("2"), engine.FileOptions{}), boom)
	require.NoError(t, f.WriteFile(t.Context(), "/d/b", []byte("3"), engine.FileOptions{}))
	file, ok := f.File("/d/a")
	require.True(t, ok)
	require.Equal(t, "1", string(file.Data), "a failed write changes nothing")
	require.Len(t, f.Calls("WriteFile"), 3)
	require.Empty(t, f.Calls("Exec"))
}

func TestFakeCommands(t *testing.T) {
	f := hosttest.NewFake()
	f.Handle("kubeadm", func(_ context.Context, c engine.Command) (engine.Output, error) {
		f.Put("/etc/kubernetes/admin.conf", []byte("x"))
		if c.Argv[1] == "bad" {
			return engine.Output{Code: 2, Stderr: []byte("no\n")}, nil
		}
		return engine.Output{Stdout: []byte("ok")}, nil
	})
	out, err := f.Query(t.Context(), engine.Command{Argv: []string{"kubeadm", "certs"}})
	require.NoError(t, err)
	require.Equal(t, "ok", string(out.Stdout))
	_, err = f.Exec(t.Context(), engine.Command{Argv: []string{"kubeadm", "bad"}})
	require.EqualError(t, err, "kubeadm bad: exit status 2: no")
	calls := f.Calls("Exec", "Query")
	require.Len(t, calls, 2)
	require.Equal(t, []string{"kubeadm", "bad"}, calls[1].Command.Argv)
	_, ok := f.File("/etc/kubernetes/admin.conf")
	require.True(t, ok)
}

func TestFakeClock(t *testing.T) {
	f := hosttest.NewFake()
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	f.SetNow(at)
	f.Put("/a", nil)
	f.Advance(time.Hour)
	now, err := f.Now(t.Context())
	require.NoError(t, err)
	require.Equal(t, at.Add(time.Hour), now)
	file, _ := f.File("/a")
	require.Equal(t, at, file.ModTime)
	require.NoError(t, f.Close())
	_, err = f.Now(t.Context())
	require.ErrorContains(t, err, "closed")
}
