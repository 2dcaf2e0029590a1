package hosttest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/engine"
)

// Ann is who holds locks in tests.
func Ann(run string) engine.Holder {
	return engine.Holder{Owner: "ann@ctl", Run: run, Playbook: "renew", PID: 4711, Since: time.Now().UTC().Truncate(time.Second)}
}

// Any takes over whatever was left.
func Any(engine.Lock) error { return nil }

// taken takes the lock of the host from whatever has left it.
func (s *suite) taken(t *testing.T, run string) engine.Held {
	t.Helper()
	held, err := s.h.Lock(t.Context(), Ann(run), Any)
	require.NoError(t, err)
	return held
}

func (s *suite) lock(t *testing.T) *engine.Lock {
	t.Helper()
	lock, err := s.h.ReadLock(t.Context())
	require.NoError(t, err)
	return lock
}

// needsRoot proves that without root a lock is refused with its reason, and
// reports whether that is so.
func (s *suite) needsRoot(t *testing.T) bool {
	t.Helper()
	if s.h.Path("/") != "/" || strings.TrimSpace(s.run(t, "id", "-u")) == "0" {
		return false
	}
	_, err := s.h.Lock(t.Context(), Ann("r1"), Any)
	require.ErrorContains(t, err, engine.LockDir)
	return true
}

func testLock(t *testing.T, s *suite) {
	if s.needsRoot(t) {
		return
	}
	held := s.taken(t, "r1")
	lock := s.lock(t)
	require.NotNil(t, lock)
	want := Ann("r1")
	want.Since = lock.Since
	require.Equal(t, want, lock.Holder)
	require.True(t, lock.Living)
	require.Less(t, lock.Silence(), time.Minute)
	require.EqualValues(t, 0o600, s.one(t, engine.LockFile).Mode)

	_, err := s.h.Lock(t.Context(), Ann("r2"), func(engine.Lock) error {
		t.Error("a lock that is held was not left")
		return nil
	})
	var locked *engine.LockedError
	require.ErrorAs(t, err, &locked)
	require.Equal(t, "r1", locked.Lock.Run)

	require.NoError(t, held.Check(t.Context()))
	require.False(t, s.lock(t).Changed, "nothing was changed yet")
	require.NoError(t, held.Change(t.Context()))
	require.NoError(t, held.Change(t.Context()))
	require.True(t, s.lock(t).Changed)
	require.NoError(t, held.Release(t.Context()))
	require.Nil(t, s.lock(t))
	require.Error(t, held.Change(t.Context()), "released")

	held, err = s.h.Lock(t.Context(), Ann("r3"), func(engine.Lock) error { return errors.New("nobody has left it") })
	require.NoError(t, err)
	require.NoError(t, held.Release(t.Context()))
}

func testLockLeft(t *testing.T, s *suite) {
	if s.needsRoot(t) {
		return
	}
	require.NoError(t, s.taken(t, "r1").Release(t.Context())) // the directory is there
	const kept = `{"owner":"bob@ctl2","run":"r0","playbook":"renew","pid":7,"since":"2026-01-01T00:00:00Z","undoes":"r00","changed":%}`
	for _, c := range []struct {
		name, content string
		want          engine.Holder
	}{
		{"changed", strings.Replace(kept, "%", "true", 1), engine.Holder{Owner: "bob@ctl2", Run: "r0", Playbook: "renew", PID: 7,
			Since: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Undoes: "r00", Changed: true}},
		{"unchanged", strings.Replace(kept, "%", "false", 1), engine.Holder{Owner: "bob@ctl2", Run: "r0", Playbook: "renew", PID: 7,
			Since: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Undoes: "r00"}},
		{"rubbish", "rubbish\n\x00", engine.Holder{Changed: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.NoError(t, s.h.WriteFile(t.Context(), engine.LockFile, []byte(c.content), engine.FileOptions{}))
			lock := s.lock(t)
			require.False(t, lock.Living)
			require.Equal(t, c.want, lock.Holder)

			refused := errors.New("not mine")
			_, err := s.h.Lock(t.Context(), Ann("r4"), func(left engine.Lock) error {
				require.Equal(t, c.want, left.Holder)
				require.False(t, left.Living)
				return refused
			})
			require.ErrorIs(t, err, refused)
			require.Equal(t, c.want, s.lock(t).Holder, "it stays as it was")

			held := s.taken(t, "r5")
			require.Equal(t, "r5", s.lock(t).Run)
			require.Equal(t, c.want.Changed, s.lock(t).Changed, "what was begun is still not finished")
			require.NoError(t, held.Release(t.Context()))
			require.Nil(t, s.lock(t))
		})
	}
}
