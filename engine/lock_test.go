package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"certbook/engine"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// found is a lock that a run of ann's has.
func found(living, changed bool) *engine.Lock {
	at := time.Date(2026, 1, 2, 12, 3, 11, 0, time.UTC)
	return &engine.Lock{
		Holder: engine.Holder{Owner: "ann@ctl", Run: "run-0", Playbook: "renew", PID: 7, Since: at, Changed: changed},
		Living: living, Seen: at.Add(3 * time.Minute), Now: at.Add(4 * time.Minute),
	}
}

// locked runs a playbook that changes three hosts.
func (w *world) locked(t *testing.T, locking engine.Locking) *engine.Report {
	t.Helper()
	r := w.runner()
	r.Lock = locking
	return r.Run(context.Background(), compile(t, fmt.Sprintf(policy, "1", "stop")), engine.Origin{})
}

// kind returns the events of a kind.
func (w *world) kind(k engine.Kind) []engine.Event {
	var list []engine.Event
	for _, e := range w.events {
		if e.Kind == k {
			list = append(list, e)
		}
	}
	return list
}

func TestARunLocksAllItsHostsBeforeItsFirstStep(t *testing.T) {
	w := newWorld()
	w.hook["m1 set a"] = func(context.Context) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		assert.Equal(t, "lock m1 lock m2 lock m3", strings.Join(w.lockLog, " "))
		by := w.locks["m1"].Holder
		assert.True(t, by.Changed, "before the change")
		assert.False(t, w.locks["m2"].Changed)
		by.Since, by.Changed = time.Time{}, false
		assert.Equal(t, engine.Holder{Owner: "bob@ctl", Run: "run-1", Playbook: "test", PID: 9}, by)
		return nil
	}
	rep := w.locked(t, engine.Locking{Owner: "bob@ctl", PID: 9})
	require.NoError(t, rep.Err)
	require.Contains(t, w.log, "m1 set a")
	require.Empty(t, w.locks, "all were given back")
	require.Equal(t, 3, w.closed)
}

func TestARunThatChangesNothingTakesNoLock(t *testing.T) {
	w := newWorld()
	w.locks["m1"] = found(true, true)
	rep := w.run(t, one("  - {id: a, action: look}\n"))
	require.NoError(t, rep.Err)
	require.Empty(t, w.lockLog)

	r := w.runner()
	c := compiler(t, one("  - {id: a, action: put, with: {key: a}}\n"))
	c.Run.Plan = true
	plan, err := c.Compile()
	require.NoError(t, err)
	require.NoError(t, r.Run(context.Background(), plan, engine.Origin{}).Err)
	require.Empty(t, w.lockLog, "a plan")
}

func TestLockedByAnotherRun(t *testing.T) {
	own := func(run string) bool { return run == "run-0" }
	unknown := &engine.Lock{Holder: engine.Holder{Changed: true}}
	undoing := found(false, true)
	undoing.Undoes = "run-00"
	for name, c := range map[string]struct {
		lock    *engine.Lock
		locking engine.Locking
		refused string // the error
		taken   string // the reason
	}{
		"living": {lock: found(true, false), locking: engine.Locking{Break: true, Own: own},
			refused: "m2: locked by ann@ctl since 12:03:11 UTC (4m ago): run run-0 of renew; wait for it or stop it there (--break-lock breaks no lock of a living run)"},
		"left": {lock: found(false, true),
			refused: "m2: left locked by ann@ctl since 12:03:11 UTC (4m ago): run run-0 of renew; its process is gone, last seen 60s ago; there 'certbook resume run-0' goes on, 'certbook rollback run-0' brings back, --break-lock takes the lock over"},
		"left by a rollback": {lock: undoing,
			refused: "m2: left locked by ann@ctl since 12:03:11 UTC (4m ago): run run-0 of renew; its process is gone, last seen 60s ago; there 'certbook rollback run-00' goes on, --break-lock takes the lock over"},
		"left by nobody known": {lock: unknown, locking: engine.Locking{Own: func(string) bool { return true }},
			refused: "m2: left locked by an unknown owner, whose process is gone: /var/lib/certbook/lock holds no lock of Certbook's; --break-lock takes it over"},
		"nobody known, broken": {lock: unknown, locking: engine.Locking{Break: true}, taken: "left by an unknown owner; taken over: --break-lock"},
		"left, broken": {lock: found(false, true), locking: engine.Locking{Break: true},
			taken: "left by ann@ctl since 12:03:11 UTC (4m ago): run run-0 of renew; taken over: --break-lock"},
		"own": {lock: found(false, true), locking: engine.Locking{Own: own},
			taken: "left by ann@ctl since 12:03:11 UTC (4m ago): run run-0 of renew; taken over: that run is over, or this one goes on with it or brings it back"},
		"unchanged": {lock: found(false, false),
			taken: "left by ann@ctl since 12:03:11 UTC (4m ago): run run-0 of renew; taken over: that run had changed nothing here"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.locks["m2"] = c.lock
			rep := w.locked(t, c.locking)
			if c.refused != "" {
				require.EqualError(t, rep.Err, c.refused)
				require.Equal(t, engine.OutcomeUnchanged, rep.Outcome)
				require.Equal(t, engine.OutcomeUnchanged, rep.Hosts["m2"].Outcome)
				require.Empty(t, w.log, "nothing was done on any host")
				require.Equal(t, "lock m1 lock m2 unlock m1", strings.Join(w.lockLog, " "))
				require.Equal(t, c.lock, w.locks["m2"])
				require.Len(t, w.kind(engine.HostLocked), 1)
				require.Equal(t, "m2: "+w.kind(engine.HostLocked)[0].Error, c.refused)
				require.Empty(t, w.kind(engine.LockTakenOver))
				return
			}
			require.NoError(t, rep.Err)
			require.Empty(t, w.locks)
			taken := w.kind(engine.LockTakenOver)
			require.Len(t, taken, 1)
			require.Equal(t, "m2", taken[0].Host)
			require.Equal(t, c.taken, taken[0].Message)
		})
	}
}

func TestALockThatCannotBeTakenRefuses(t *testing.T) {
	w := newWorld()
	w.fail["m2 lock"] = -1
	rep := w.locked(t, engine.Locking{})
	require.EqualError(t, rep.Err, "m2: lock: no flock")
	require.Empty(t, w.log)
	require.Empty(t, w.locks)

	w = newWorld()
	w.locks["m2"] = found(false, true)
	w.emit = func(e engine.Event) error {
		if e.Kind == engine.LockTakenOver {
			return errors.New("disk full")
		}
		return nil
	}
	rep = w.locked(t, engine.Locking{Break: true})
	require.ErrorContains(t, rep.Err, "event log: disk full")
	require.Empty(t, w.log, "no lock is broken that is not recorded")
	require.Equal(t, "run-0", w.locks["m2"].Run)
}

func TestALostLockEndsTheWorkOnItsHost(t *testing.T) {
	w := newWorld()
	w.hook["m2 set a"] = func(context.Context) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.gone["m2"] = true
		return nil
	}
	rep := w.runner().Run(context.Background(), compile(t, fmt.Sprintf(policy, "1", "rollback")), engine.Origin{})
	require.ErrorContains(t, rep.Err, "m2: b: the host's lock is lost, nothing more is changed there: the connection is closed")
	require.NotContains(t, w.log, "m2 set b")
	require.NotContains(t, w.log, "m2 undo a", "another run may work there")
	require.Equal(t, engine.OutcomePartial, rep.Hosts["m2"].Outcome)
	require.Len(t, w.kind(engine.LockLost), 1, "it is told once, though the release fails as well")
	require.Contains(t, w.lockLog, "unlock m1")
	require.NotContains(t, w.lockLog, "unlock m2")
	require.Contains(t, w.lockLog, "unlock m3")
}

func TestLocksAreGivenBackAfterAnInterrupt(t *testing.T) {
	w := newWorld()
	ctx, cancel := context.WithCancel(context.Background())
	w.hook["m1 set a"] = func(context.Context) error { cancel(); return ctx.Err() }
	rep := w.runner().Run(ctx, compile(t, fmt.Sprintf(policy, "1", "stop")), engine.Origin{})
	require.Equal(t, engine.OutcomeInterrupted, rep.Outcome)
	require.Empty(t, w.locks)
}

// TestAHostThatIsDoneIsUnlocked takes the lock of a host on which an earlier run
// has left nothing to do but its lock.
func TestAHostThatIsDoneIsUnlocked(t *testing.T) {
	plays := "plays:\n- name: p\n  hosts: masters\n  serial: 1\n  steps:\n  - {id: a, action: put, with: {key: a}}\n"
	for _, c := range []struct {
		name string
		own  bool
	}{{"own", true}, {"another's", false}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			w.locks["m1"] = found(false, true)
			r := w.runner()
			r.Lock.Own = func(string) bool { return c.own }
			rep := r.Run(context.Background(), compile(t, plays).Without(map[string][]string{"p": {"m1"}}), engine.Origin{})
			if !c.own {
				require.ErrorContains(t, rep.Err, "m1: left locked by ann@ctl")
				require.Equal(t, engine.OutcomeUnchanged, rep.Outcome)
				require.Empty(t, w.log)
				return
			}
			require.NoError(t, rep.Err)
			require.Equal(t, []string{"m2", "m3"}, rep.Order)
			require.Empty(t, w.locks)
			require.Equal(t, "m2 set a, m3 set a", w.did())
			require.Equal(t, 3, w.closed)
		})
	}
}
