package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"certbook/engine"

	"github.com/stretchr/testify/require"
)

func TestRollbackRevertsOnlyWhatWasApplied(t *testing.T) {
	w := newWorld()
	w.keys["m1/b"] = "done"
	w.fail["m1 set d"] = -1
	rep := w.run(t, one("  - {id: a, action: put, with: {key: a}}\n  - {id: b, action: put, with: {key: b}}\n  - {id: c, action: put, when: 'false', with: {key: c}}\n  - {id: d, action: put, with: {key: d}}\n  - {id: e, action: put, with: {key: e}}\n"))
	require.Equal(t, "m1 set a, m1 set d, m1 undo d, m1 undo a", w.did(), "also the step whose Apply failed half way")
	require.Equal(t, engine.OutcomeReverted, rep.Outcome)
	require.Equal(t, engine.OutcomeReverted, rep.Hosts["m1"].Outcome)
	require.Equal(t, map[string]string{"m1/b": "done"}, w.keys)
	var statuses []string
	for _, s := range rep.Steps["m1"] {
		statuses = append(statuses, s.ID+":"+s.Status)
	}
	require.Equal(t, "a:reverted b:ok c:skipped d:reverted", strings.Join(statuses, " "))
}

func TestAFailedCheckChangesNothing(t *testing.T) {
	w := newWorld()
	w.fail["m1 get a"] = -1
	rep := w.run(t, one("  - {id: a, action: put, with: {key: a}}\n"))
	require.Equal(t, engine.OutcomeUnchanged, rep.Outcome)
	require.Equal(t, "", w.did())
	require.Equal(t, []string{"m1/a"}, rep.Left)
}

func TestApplyThatDoesNotHelpFails(t *testing.T) {
	w := newWorld()
	w.hook["m1 get a"] = func(context.Context) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.keys, "m1/a")
		return nil
	}
	rep := w.run(t, one("  - {id: a, action: put, with: {key: a, value: v}}\n"))
	require.EqualError(t, rep.Err, "m1: a: done, but still not as it should be: a, want v")
	require.Equal(t, engine.OutcomeReverted, rep.Outcome)
}

func TestFollowersGoForwardAfterTheReverts(t *testing.T) {
	w := newWorld()
	w.keys["m1/f1"], w.keys["m1/f2"] = "", ""
	w.fail["m1 set z"] = -1
	rep := w.run(t, one("  - {id: a, action: put, with: {key: a}}\n  - {id: f1, action: follow, with: {key: f1, of: a}}\n  - {id: f2, action: follow, with: {key: f2, of: a}}\n  - {id: z, action: put, with: {key: z}}\n"))
	require.Equal(t, "m1 set a, m1 set f1, m1 set f2, m1 set z, m1 undo z, m1 undo a, m1 set f1, m1 set f2", w.did())
	require.Equal(t, engine.OutcomeReverted, rep.Outcome)
	require.Equal(t, "", w.keys["m1/f1"])
	require.Equal(t, "m1/a m1/f1 m1/f2 m1/z", strings.Join(rep.Left, " "))

	w = newWorld()
	w.fail["m1 set z"] = -1
	sets := 0
	w.hook["m1 set f1"] = func(context.Context) error {
		if sets++; sets > 1 {
			return errors.New("does not start")
		}
		return nil
	}
	rep = w.run(t, one("  - {id: a, action: put, with: {key: a}}\n  - {id: f1, action: follow, with: {key: f1, of: a}}\n  - {id: z, action: put, with: {key: z}}\n"))
	require.Equal(t, engine.OutcomePartial, rep.Outcome)
	require.Equal(t, 4, sets, "three attempts after the first")
	require.Len(t, w.slept, 2, "no pause after the last attempt")
	require.Contains(t, w.story("m1"), "f1:revert-failed")
}

func TestRevertThatFailsIsPartial(t *testing.T) {
	w := newWorld()
	w.fail["m1 set c"], w.fail["m1 undo b"] = -1, -1
	rep := w.run(t, one("  - {id: a, action: put, with: {key: a}}\n  - {id: b, action: put, with: {key: b}}\n  - {id: c, action: put, with: {key: c}}\n"))
	require.Equal(t, "m1 set a, m1 set b, m1 set c, m1 undo c, m1 undo b, m1 undo a", w.did(), "the others are reverted all the same")
	require.Equal(t, engine.OutcomePartial, rep.Outcome)
	require.Contains(t, w.story("m1"), "c:reverted b:revert-failed a:reverted")
}

func TestWhatCannotBeUndoneIsPartial(t *testing.T) {
	for action, want := range map[string]engine.Outcome{"set": engine.OutcomePartial, "wait": engine.OutcomeUnchanged, "put": engine.OutcomeReverted} {
		w := newWorld()
		w.keys["m1/bad"] = "bad"
		rep := w.run(t, one("  - {id: a, action: "+action+", with: {key: a}}\n  - {id: z, action: look, with: {key: bad}}\n"))
		require.Error(t, rep.Err)
		require.Equal(t, want, rep.Outcome, action)
	}
}

func TestPanicIsAFailedStep(t *testing.T) {
	w := newWorld()
	rep := w.run(t, one("  - {id: a, action: put, with: {key: a}}\n  - {id: b, action: panic, with: {key: b}}\n"))
	require.EqualError(t, rep.Err, "m1: b: internal error in action panic: runtime error: index out of range [1] with length 0")
	require.Equal(t, "m1 set a, m1 set b, m1 undo b, m1 undo a", w.did())
	require.Equal(t, engine.OutcomeReverted, rep.Outcome)
}
