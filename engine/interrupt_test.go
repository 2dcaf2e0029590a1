package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"certbook/engine"

	"github.com/stretchr/testify/require"
)

func TestStopFinishesTheStepAndBeginsNone(t *testing.T) {
	w := newWorld()
	stop := make(chan struct{})
	w.hook["m2 set a"] = func(context.Context) error { close(stop); return nil }
	r := w.runner()
	r.Stop = stop
	rep := r.Run(context.Background(), compile(t, fmt.Sprintf(policy, "all", "rollback")), engine.Origin{})
	require.NoError(t, rep.Err)
	require.Equal(t, engine.OutcomeInterrupted, rep.Outcome)
	require.ElementsMatch(t, strings.Split("m1 set a, m2 set a, m3 set a", ", "), strings.Split(w.did(), ", "))
	require.Equal(t, "m1/b m1/c m2/b m2/c m3/b m3/c m1/z m2/z m3/z", strings.Join(rep.Left, " "))
	require.Contains(t, w.log, "m1 get bye", "finally runs")
	interrupts := 0
	for _, e := range w.events {
		switch e.Kind {
		case engine.Interrupted:
			interrupts++
		case engine.HostFinished:
			require.Equal(t, engine.OutcomeInterrupted, e.Outcome)
		}
	}
	require.Equal(t, 1, interrupts)
}

func TestStopEndsRetries(t *testing.T) {
	w := newWorld()
	stop := make(chan struct{})
	w.hook["m1 set a"] = func(context.Context) error { close(stop); return errors.New("broken") }
	r := w.runner()
	r.Stop = stop
	rep := r.Run(context.Background(), compile(t, one("  - {id: a, action: put, with: {key: a}, retry: {attempts: 5}}\n")), engine.Origin{})
	require.Equal(t, "m1 set a, m1 undo a", w.did())
	require.Empty(t, w.slept)
	require.Equal(t, engine.OutcomeInterrupted, rep.Outcome)
}

func TestStopAfterTheLastStepIsNoInterrupt(t *testing.T) {
	w := newWorld()
	stop := make(chan struct{})
	w.hook["m1 set a"] = func(context.Context) error { close(stop); return nil }
	r := w.runner()
	r.Stop = stop
	rep := r.Run(context.Background(), compile(t, one("  - {id: a, action: put, with: {key: a}}\n")), engine.Origin{})
	require.Equal(t, engine.OutcomeOK, rep.Outcome)
	require.Empty(t, rep.Left)
}

func TestCancelledContext(t *testing.T) {
	w := newWorld()
	ctx, cancel := context.WithCancel(context.Background())
	w.hook["m1 set b"] = func(context.Context) error { cancel(); return ctx.Err() }
	rep := w.runner().Run(ctx, compile(t, "plays:\n- name: p\n  hosts: m1\n  steps:\n  - {id: a, action: put, with: {key: a}}\n  - {id: b, action: put, with: {key: b}, retry: {attempts: 5}}\n  finally: [{id: bye, action: look, with: {key: bye}}]\n"), engine.Origin{})
	require.Equal(t, "m1 set a, m1 set b", w.did(), "no retry and no rollback: stopped at once")
	require.NotContains(t, w.story("m1"), "bye:ok")
	require.Equal(t, engine.OutcomeInterrupted, rep.Outcome)
	require.Equal(t, engine.OutcomePartial, rep.Hosts["m1"].Outcome, "the log says where a person has to look")
	require.ErrorIs(t, rep.Hosts["m1"].Err, context.Canceled)
	require.Equal(t, []string{"m1/b"}, rep.Left)

	w = newWorld()
	rep = w.runner().Run(ctx, compile(t, one("  - {id: a, action: put, with: {key: a}}\n")), engine.Origin{})
	require.Equal(t, engine.OutcomeInterrupted, rep.Outcome)
	require.Empty(t, w.log, "cancelled before it began")
}

const undone = "plays:\n- name: p\n  hosts: m1\n  steps:\n  - {id: a, action: put, with: {key: a}}\n  - {id: b, action: put, with: {key: b}}\n  finally: [{id: bye, action: look, with: {key: bye}}]\n"

func TestAnInterruptDoesNotStopARollback(t *testing.T) {
	w := newWorld()
	stop := make(chan struct{})
	w.fail["m1 set b"] = -1
	w.hook["m1 undo b"] = func(context.Context) error { close(stop); return nil }
	r := w.runner()
	r.Stop = stop
	rep := r.Run(context.Background(), compile(t, undone), engine.Origin{})
	require.Equal(t, "m1 set a, m1 set b, m1 undo b, m1 undo a", w.did())
	require.Contains(t, w.story("m1"), "bye:ok", "nor finally")
	require.Equal(t, engine.OutcomeReverted, rep.Hosts["m1"].Outcome)
	require.Equal(t, engine.OutcomeInterrupted, rep.Outcome)
}

func TestASecondInterruptStopsARollback(t *testing.T) {
	w := newWorld()
	ctx, cancel := context.WithCancel(context.Background())
	w.fail["m1 set b"] = -1
	w.hook["m1 undo b"] = func(ctx context.Context) error { cancel(); return ctx.Err() }
	rep := w.runner().Run(ctx, compile(t, undone), engine.Origin{})
	require.NotContains(t, w.story("m1"), "bye:ok")
	require.Equal(t, engine.OutcomePartial, rep.Hosts["m1"].Outcome)
	require.Equal(t, engine.OutcomeInterrupted, rep.Outcome)
	require.Equal(t, "m1/b", strings.Join(rep.Left, " "))
	failed := 0
	for _, e := range w.events {
		if e.Kind == engine.RevertFailed {
			failed++
		}
	}
	require.Equal(t, 2, failed, "the log says what is left")
}

func TestALogThatFailsStopsTheRun(t *testing.T) {
	for _, kind := range []engine.Kind{engine.RunStarted, engine.PlayStarted, engine.HostConnected, engine.StepStarted, engine.CommandRun, engine.StepIntent, engine.RunFinished} {
		w := newWorld()
		w.emit = func(e engine.Event) error {
			if e.Kind == kind {
				return errors.New("disk full")
			}
			return nil
		}
		rep := w.run(t, one("  - {id: a, action: put, with: {key: a}}\n  - {id: b, action: put, with: {key: b}}\n"))
		require.ErrorContains(t, rep.Err, "event log: disk full", kind)
		require.Equal(t, engine.OutcomePartial, rep.Outcome, kind)
		require.Equal(t, kind, w.events[len(w.events)-1].Kind, "nothing is emitted after a failure")
		if kind != engine.RunFinished {
			require.Equal(t, "", w.did(), kind)
		}
	}
	w := newWorld()
	w.emit = func(e engine.Event) error {
		if e.Kind == engine.StepIntent && e.Step == "b" {
			return errors.New("disk full")
		}
		return nil
	}
	w.run(t, one("  - {id: f, action: put, with: {key: a}}\n  - {id: r, action: follow, with: {key: f1, of: a}}\n  - {id: b, action: put, with: {key: b}}\n"))
	require.Equal(t, "m1 set a, m1 set f1, m1 undo a, m1 set f1", w.did(), "the rollback is whole although it cannot be recorded")
}
