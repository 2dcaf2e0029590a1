package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"certbook/engine"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const keeps = "plays:\n- {name: l, hosts: m1, steps: [{id: lock, action: keep}]}\n- name: p\n  hosts: [m1, m2]\n  serial: 1\n  steps:\n  - {id: a, action: put, with: {key: a}}\n  - {id: b, action: put, with: {key: b}}\n"

// kept runs a playbook that keeps something, which is renewed once while m1 sets a.
func (w *world) kept(t *testing.T) *engine.Report {
	t.Helper()
	due, renewed := make(chan struct{}), make(chan struct{})
	w.hook["m1 set a"] = func(ctx context.Context) error {
		close(due)
		<-renewed
		return ctx.Err()
	}
	r := w.runner()
	rounds := 0
	r.Sleep = func(ctx context.Context, d time.Duration) error {
		assert.Equal(t, time.Minute, d)
		if rounds++; rounds == 1 {
			select {
			case <-due:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		close(renewed)
		<-ctx.Done()
		return ctx.Err()
	}
	return r.Run(context.Background(), compile(t, keeps), engine.Origin{})
}

func TestWhatIsKeptIsRenewedAndGivenBack(t *testing.T) {
	w := newWorld()
	w.hook["m1 release lock"] = func(context.Context) error {
		assert.True(t, w.locks["m1"].Living, "the host's own lock is given back after it")
		return nil
	}
	w.hook["m1 take lock"] = func(context.Context) error {
		assert.False(t, w.locks["m1"].Changed, "it is no change")
		return nil
	}
	rep := w.kept(t)
	require.NoError(t, rep.Err)
	require.Equal(t, "m1 take lock, m1 set a, m1 renew lock, m1 set b, m2 set a, m2 set b, m1 release lock", w.did())
	require.Equal(t, "ok", rep.Steps["m1"][0].Status)
	require.Equal(t, "lock:started lock:ok a:started a:intent a:changed b:started b:intent b:changed", w.story("m1"), "a resumed run takes it again")
}

func TestWhatIsKeptIsGivenBackAfterAFailure(t *testing.T) {
	w := newWorld()
	w.fail["m2 set a"] = -1
	rep := w.kept(t)
	require.Error(t, rep.Err)
	require.Equal(t, "m1 release lock", w.log[len(w.log)-1])

	w = newWorld()
	w.fail["m1 release lock"] = -1
	rep = w.kept(t)
	require.NoError(t, rep.Err)
	lost := w.kind(engine.LockLost)
	require.Len(t, lost, 1)
	require.Equal(t, "release lock: exit status 1: broken", lost[0].Error)

	w = newWorld()
	ctx, cancel := context.WithCancel(context.Background())
	w.hook["m1 set a"] = func(context.Context) error { cancel(); return ctx.Err() }
	r := w.runner()
	r.Sleep = func(ctx context.Context, _ time.Duration) error { <-ctx.Done(); return ctx.Err() }
	rep = r.Run(ctx, compile(t, keeps), engine.Origin{})
	require.Equal(t, engine.OutcomeInterrupted, rep.Outcome)
	require.Equal(t, "m1 release lock", w.log[len(w.log)-1])
	require.Empty(t, w.kind(engine.LockLost))
}

// TestWhatIsKeptIsLost ends a run whose lock another one has taken.
func TestWhatIsKeptIsLost(t *testing.T) {
	w := newWorld()
	renewing := make(chan struct{})
	w.hook["m1 renew lock"] = func(context.Context) error { return errors.New("it is another's") }
	w.hook["m1 set a"] = func(context.Context) error {
		close(renewing)
		assert.Eventually(t, func() bool { return w.has(engine.LockLost) }, time.Minute, time.Millisecond)
		return nil
	}
	r := w.runner()
	r.Sleep = func(ctx context.Context, _ time.Duration) error {
		select {
		case <-renewing:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	emit := r.Emit
	r.Emit = func(e engine.Event) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		return emit(e)
	}
	rep := r.Run(context.Background(), compile(t, keeps), engine.Origin{})
	require.EqualError(t, rep.Err, "lock: it is another's; no further step was begun")
	require.Equal(t, engine.OutcomePartial, rep.Outcome)
	require.Equal(t, "m1/b m2/a m2/b", strings.Join(rep.Left, " "))
	require.Equal(t, "m1 take lock, m1 set a, m1 renew lock, m1 release lock", w.did())
	for _, e := range w.events {
		require.NotEqual(t, engine.Interrupted, e.Kind)
	}
}

func (w *world) has(k engine.Kind) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.kind(k)) > 0
}

func TestAPlanOnlyChecksWhatWouldBeKept(t *testing.T) {
	w := newWorld()
	c := compiler(t, keeps)
	c.Run.Plan = true
	plan, err := c.Compile()
	require.NoError(t, err)
	rep := w.runner().Run(context.Background(), plan, engine.Origin{})
	require.NoError(t, rep.Err)
	require.Contains(t, w.log, "m1 get lock")
	require.Empty(t, w.did())
	require.Equal(t, "ok", rep.Steps["m1"][0].Status)
}
