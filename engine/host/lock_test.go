package host_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"certbook/engine"
	"certbook/engine/host"
	"certbook/engine/host/hosttest"
)

// machines returns two connections to one machine, local and over SSH, with a
// lock of their own.
func machines(t *testing.T, test func(t *testing.T, first, second *host.Host, file string)) {
	t.Run("local", func(t *testing.T) {
		root := t.TempDir()
		var list []*host.Host
		for range 2 {
			h, err := host.Local(t.Context(), host.LocalOptions{Root: root})
			require.NoError(t, err)
			t.Cleanup(func() { h.Close() })
			list = append(list, h)
		}
		test(t, list[0], list[1], filepath.Join(root, engine.LockFile))
	})
	t.Run("ssh", func(t *testing.T) {
		dir := t.TempDir()
		s := hosttest.SSHD(t, hosttest.SSHDOptions{Binds: map[string]string{engine.LockDir: dir}})
		test(t, dialled(t, s.Options()), dialled(t, s.Options()), filepath.Join(dir, "lock"))
	})
}

// TestLockEndsWithItsRun ends a connection and, in another case, the process
// that holds the lock on the host: the lock is left, and its run told.
func TestLockEndsWithItsRun(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, h *host.Host, file string){
		"connection": func(_ *testing.T, h *host.Host, _ string) { h.Close() },
		"holder": func(t *testing.T, _ *host.Host, file string) {
			for _, pid := range open(t, file) {
				require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			machines(t, func(t *testing.T, first, second *host.Host, file string) {
				held, err := first.Lock(t.Context(), hosttest.Ann("r1"), hosttest.Any)
				require.NoError(t, err)
				require.NoError(t, held.Change(t.Context()))
				_, err = second.Lock(t.Context(), hosttest.Ann("r2"), hosttest.Any)
				require.ErrorAs(t, err, new(*engine.LockedError))
				end(t, first, file)

				var left []engine.Lock
				refused := errors.New("refused")
				_, err = second.Lock(t.Context(), hosttest.Ann("r2"), func(lock engine.Lock) error {
					left = append(left, lock)
					return refused
				})
				require.ErrorIs(t, err, refused)
				require.Len(t, left, 1)
				require.Equal(t, "r1", left[0].Run)
				require.True(t, left[0].Changed)

				eventually(t, "the run does not hear of it", func() bool { return held.Check(t.Context()) != nil })
				require.Error(t, held.Change(t.Context()))
				require.Error(t, held.Release(t.Context()))
				lock, err := second.ReadLock(t.Context())
				require.NoError(t, err)
				require.False(t, lock.Living)
				require.Equal(t, "r1", lock.Run)
			})
		})
	}
}

// open returns the processes that have the file open.
func open(t *testing.T, file string) []int {
	t.Helper()
	want, err := os.Stat(file)
	require.NoError(t, err)
	var pids []int
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range links {
		if fi, err := os.Stat(link); err == nil && os.SameFile(fi, want) {
			pid, err := strconv.Atoi(strings.Split(link, "/")[2])
			require.NoError(t, err)
			pids = append(pids, pid)
		}
	}
	require.Len(t, pids, 1, "one process keeps the lock, and none of its children")
	return pids
}

// TestLockNeedsASession shows what is said when the server allows one session.
func TestLockNeedsASession(t *testing.T) {
	s := hosttest.SSHD(t, hosttest.SSHDOptions{Config: []string{"MaxSessions 1"}, Binds: map[string]string{engine.LockDir: t.TempDir()}})
	h := dialled(t, s.Options())
	held, err := h.Lock(t.Context(), hosttest.Ann("r1"), hosttest.Any)
	require.NoError(t, err)
	_, err = h.Exec(t.Context(), engine.Command{Argv: []string{"true"}})
	require.ErrorContains(t, err, "allows no second session on a connection, and the host's lock keeps one; set MaxSessions")
	require.NoError(t, held.Release(t.Context()))
}

func TestLockCannotBeTaken(t *testing.T) {
	root := t.TempDir()
	h, err := host.Local(t.Context(), host.LocalOptions{Root: root})
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Join(root, engine.LockFile), 0o700))
	_, err = h.Lock(t.Context(), hosttest.Ann("r1"), hosttest.Any)
	require.EqualError(t, err, filepath.Join(root, engine.LockFile)+" is not a regular file")
	_, err = h.ReadLock(t.Context())
	require.EqualError(t, err, filepath.Join(root, engine.LockFile)+" is not a regular file")

	gone, stop := context.WithCancel(t.Context())
	stop()
	_, err = h.Lock(gone, hosttest.Ann("r1"), hosttest.Any)
	require.ErrorIs(t, err, context.Canceled)
}
