package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"certbook/engine"

	"github.com/stretchr/testify/require"
)

// one is a play on m1 with these steps.
func one(steps string) string {
	return "plays:\n- name: one\n  hosts: m1\n  steps:\n" + steps
}

func TestTheOneLoop(t *testing.T) {
	w := newWorld()
	rep := w.run(t, one("  - {id: a, action: put, with: {key: a}}\n"))
	require.NoError(t, rep.Err)
	require.Equal(t, engine.OutcomeOK, rep.Outcome)
	require.Empty(t, rep.Left)
	require.Equal(t, []string{"m1 get a", "m1 set a", "m1 get a"}, w.log)
	var kinds []string
	for i, e := range w.events {
		kinds = append(kinds, string(e.Kind))
		require.Equal(t, "run-1", e.Run)
		require.True(t, i == 0 || e.Time.After(w.events[i-1].Time))
	}
	require.Equal(t, "run-started play-started host-connected step-started command step-intent command command step-changed host-finished run-finished", strings.Join(kinds, " "))
	require.Equal(t, "a", w.events[5].Changes[0].Subject)
	require.Equal(t, "done", w.events[8].Done[0].To)
	require.Equal(t, "changed", rep.Steps["m1"][0].Status)
	require.Equal(t, 1, w.closed)

	again := newWorld()
	again.keys["m1/a"] = "done"
	rep = again.run(t, one("  - {id: a, action: put, with: {key: a}}\n"))
	require.Equal(t, "ok", rep.Steps["m1"][0].Status)
	require.Equal(t, "", again.did())
}

func TestRetryDoesNotApplyWhatIsDone(t *testing.T) {
	w := newWorld()
	// The command does its work, but reports a failure.
	w.hook["m1 set a"] = func(context.Context) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.keys["m1/a"] = "done"
		return errors.New("connection lost")
	}
	rep := w.run(t, one("  - {id: a, action: put, with: {key: a}, retry: {attempts: 3}}\n"))
	require.NoError(t, rep.Err)
	require.Equal(t, "m1 set a", w.did())
	require.Equal(t, "a:started a:intent a:retry a:changed", w.story("m1"))
}

func TestPauses(t *testing.T) {
	for retry, want := range map[string]string{
		"{attempts: 4, delay: 1s}":                             "[1s 1s 1s]",
		"{attempts: 6, delay: 1s, backoff: 3, max_delay: 10s}": "[1s 3s 9s 10s 10s]",
		"{attempts: 3, delay: 10s, jitter: 0.5}":               "[7.5s 7.5s]",
		"{attempts: 3, delay: 10s, jitter: 1, backoff: 2}":     "[5s 10s]",
		"{attempts: 3, delay: 1m, max_delay: 5s}":              "[5s 5s]",
		"{attempts: 1}": "[]",
		"{attempts: 40, delay: 1s, backoff: 100, max_delay: 9999d}":      "capped",
		"{attempts: 3, delay: 0, backoff: 100, max_delay: 0, jitter: 1}": "[0s 0s]",
	} {
		w := newWorld()
		w.fail["m1 set a"] = -1
		rep := w.run(t, one("  - {id: a, action: put, with: {key: a}, retry: "+retry+"}\n"))
		require.ErrorContains(t, rep.Err, "m1: a: set a done: exit status 1: broken")
		if want != "capped" {
			require.Equal(t, want, fmt.Sprint(w.slept), retry)
			continue
		}
		require.Len(t, w.slept, 39)
		require.Equal(t, 9999*24*time.Hour, w.slept[38], "a pause grows without overflowing")
	}
}

func TestUntil(t *testing.T) {
	w := newWorld()
	w.hook["m1 get look"] = func(context.Context) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.keys["m1/look"] += "x"
		return nil
	}
	rep := w.run(t, one("  - {id: a, action: look, retry: {attempts: 9, until: steps.a.count >= 3}}\n"))
	require.NoError(t, rep.Err)
	require.Len(t, w.slept, 2)

	w = newWorld()
	rep = w.run(t, one("  - {id: a, action: look, retry: {attempts: 2, until: steps.a.have == 'x'}}\n"))
	require.EqualError(t, rep.Err, `m1: a: until "steps.a.have == 'x'" is false`)
	require.Equal(t, engine.OutcomeUnchanged, rep.Outcome)

	w = newWorld()
	rep = w.run(t, one("  - {id: a, action: put, with: {key: k}, retry: {attempts: 2, until: steps.a.changed}}\n"))
	require.NoError(t, rep.Err, "until sees that the step has changed something")
}

func TestTimeout(t *testing.T) {
	w := newWorld()
	w.hook["m1 set a"] = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	rep := w.run(t, one("  - {id: a, action: put, with: {key: a}, timeout: 1s}\n"))
	require.EqualError(t, rep.Err, "m1: a: timed out after 1s: context deadline exceeded")
	require.Equal(t, "m1 set a, m1 undo a", w.did(), "Revert has time of its own")
	require.Equal(t, engine.OutcomeReverted, rep.Outcome)
}

func TestBatches(t *testing.T) {
	for serial, want := range map[string]string{
		"1": "m1 | m2 | m3", "2": "m1 m2 | m3", "50%": "m1 | m2 | m3", "67%": "m1 m2 | m3", "100%": "m1 m2 m3", "all": "m1 m2 m3", "9": "m1 m2 m3",
	} {
		plan := compile(t, "plays:\n- {name: p, hosts: all, serial: "+serial+", steps: [{id: a, action: look}]}\n")
		var batches []string
		for _, b := range plan.Plays[0].Batches {
			batches = append(batches, strings.Join(b, " "))
		}
		require.Equal(t, want, strings.Join(batches, " | "), serial)
	}
	w := newWorld()
	w.run(t, "plays:\n- {name: p, hosts: all, serial: 1, steps: [{id: a, action: put, with: {key: a}}, {id: b, action: put, with: {key: b}}]}\n")
	require.Equal(t, "m1 set a, m1 set b, m2 set a, m2 set b, m3 set a, m3 set b", w.did())
}

const policy = "plays:\n- name: p\n  hosts: all\n  serial: %s\n  on_failure: %s\n  steps:\n  - {id: a, action: put, with: {key: a}}\n  - {id: b, action: put, with: {key: b}}\n  - {id: c, action: put, with: {key: c}}\n  finally:\n  - {id: bye, action: look, with: {key: bye}}\n- {name: q, hosts: all, steps: [{id: z, action: put, with: {key: z}}]}\n"

func TestPolicies(t *testing.T) {
	for _, c := range []struct {
		serial, policy string
		outcome        engine.Outcome
		m1, m2, m3     string // what was done on it
		left           string
	}{
		{"1", "rollback", engine.OutcomePartial, "set a, set b, set c", "set a, set b, undo b, undo a", "",
			"m2/a m2/b m2/c m3/a m3/b m3/c m1/z m2/z m3/z"},
		{"all", "rollback", engine.OutcomeReverted, "set a, set b, undo b, undo a", "set a, set b, undo b, undo a", "set a, set b, undo b, undo a",
			"m1/a m1/b m1/c m2/a m2/b m2/c m3/a m3/b m3/c m1/z m2/z m3/z"},
		{"1", "stop", engine.OutcomePartial, "set a, set b, set c", "set a, set b", "", "m2/b m2/c m3/a m3/b m3/c m1/z m2/z m3/z"},
		{"1", "continue", engine.OutcomePartial, "set a, set b, set c, set z", "set a, set b", "set a, set b, set c, set z", "m2/b m2/c m2/z"},
		{"all", "continue", engine.OutcomePartial, "set a, set b, set c, set z", "set a, set b", "set a, set b, set c, set z", "m2/b m2/c m2/z"},
	} {
		t.Run(c.serial+" "+c.policy, func(t *testing.T) {
			w := newWorld()
			w.fail["m2 set b"] = -1
			rep := w.run(t, fmt.Sprintf(policy, c.serial, c.policy))
			require.Error(t, rep.Err)
			require.Equal(t, c.outcome, rep.Outcome)
			require.Equal(t, c.left, strings.Join(rep.Left, " "))
			for host, want := range map[string]string{"m1": c.m1, "m2": c.m2, "m3": c.m3} {
				var did []string
				byes := 0
				for _, l := range w.log {
					name, command, _ := strings.Cut(l, " ")
					if name != host {
						continue
					}
					if command == "get bye" {
						byes++
					}
					if !strings.HasPrefix(command, "get ") {
						did = append(did, command)
					}
				}
				require.Equal(t, want, strings.Join(did, ", "), host)
				require.Equal(t, byes == 1, want != "", "finally runs once on each host of a batch that was begun: %s", host)
			}
			last := w.events[len(w.events)-1]
			require.Equal(t, engine.RunFinished, last.Kind)
			require.Equal(t, rep.Outcome, last.Outcome)
			require.Equal(t, rep.Left, last.Left)
		})
	}
}

func TestFinally(t *testing.T) {
	const plays = "plays:\n- name: p\n  hosts: m1\n  steps:\n  - {id: a, action: put, with: {key: a}}\n  finally:\n  - {id: x, action: set, with: {key: x}}\n  - {id: y, action: set, when: steps.x.failed, with: {key: y}}\n- {name: q, hosts: m1, steps: [{id: z, action: look}]}\n"
	w := newWorld()
	w.fail["m1 set x"] = -1
	rep := w.run(t, plays)
	require.Equal(t, "m1 set a, m1 set x, m1 set y", w.did(), "one that fails does not keep the next from running")
	require.ErrorContains(t, rep.Err, "m1: x: ")
	require.Equal(t, []string{"m1/z"}, rep.Left, "the run ends")
	require.Equal(t, engine.OutcomePartial, rep.Outcome)

	w = newWorld()
	w.fail["m1 set a"] = -1
	rep = w.run(t, plays)
	require.Equal(t, "m1 set a, m1 undo a, m1 set x", w.did())
	require.EqualError(t, rep.Err, "m1: a: set a done: exit status 1: broken", "the first failure is what is told")
}

func TestResultsOfOtherHosts(t *testing.T) {
	w := newWorld()
	w.keys["m2/look"] = "leader"
	rep := w.run(t, "plays:\n- {name: p, hosts: all, steps: [{id: x, action: look}]}\n- {name: q, hosts: m1, steps: [{id: y, action: put, when: hosts.m2.steps.x.have == 'leader', with: {key: k, value: '${hosts.m2.steps.x.have} ${hosts[\"m3\"].steps.x.count}'}}]}\n")
	require.NoError(t, rep.Err)
	require.Equal(t, "leader 0", w.keys["m1/k"])
}

func TestFactsAndOutputs(t *testing.T) {
	w := newWorld()
	w.keys["m1/look"] = "four"
	rep := w.run(t, one("  - {id: x, action: look, with: {before: 36h}}\n  - {id: y, action: put, when: facts.cores == 4 && steps.x.count == 4, with: {key: k, value: '${facts.version}/${steps.x.names[1]}/${steps.x.span}/${steps.x.changed}/${run.id}/${host.addr}'}}\n  - {id: z, action: look, when: steps.y.changed && !steps.y.skipped, with: {names: '${steps.x.names}', n: '${steps.x.count}', text: '${steps.x.count}'}}\n"))
	require.NoError(t, rep.Err)
	require.Equal(t, "1.34.2/four/1d12h/false/run-1/10.0.0.1", w.keys["m1/k"])
	require.Equal(t, "4", rep.Steps["m1"][2].Outputs.(seen).Text)
}

func TestUnreachableHost(t *testing.T) {
	for policy, did := range map[string]string{"rollback": "", "stop": "", "continue": "m1 set a, m3 set a"} {
		w := newWorld()
		w.fail["m2 dial"] = -1
		r := w.runner()
		r.Forks = 1
		rep := r.Run(context.Background(), compile(t, "plays:\n- {name: p, hosts: all, on_failure: "+policy+", steps: [{id: a, action: put, with: {key: a}}]}\n"), engine.Origin{})
		require.EqualError(t, rep.Err, "m2: no route")
		require.Equal(t, did, w.did())
		require.Contains(t, rep.Left, "m2/a")
	}
}

func TestStepTurnedOff(t *testing.T) {
	w := newWorld()
	c := compiler(t, one("  - {id: a, action: put, with: {key: a}}\n  - {id: b, action: put, when: steps.a.skipped, with: {key: b}}\n"))
	c.Overlays = append(c.Overlays, overlay(t, "steps: [{id: a, off: not here}]"))
	plan, err := c.Compile()
	require.NoError(t, err)
	rep := w.runner().Run(context.Background(), plan, engine.Origin{})
	require.Equal(t, "m1 set b", w.did())
	require.Equal(t, "turned off: not here", rep.Steps["m1"][0].Reason)
}

func TestAnAssertionCannotChange(t *testing.T) {
	w := newWorld()
	rep := w.run(t, one("  - {id: a, action: odd}\n"))
	require.EqualError(t, rep.Err, "m1: a: odd cannot make changes, but found some: s is a, want b")
	require.Equal(t, engine.OutcomeUnchanged, rep.Outcome)
}

func TestSecretsAreMasked(t *testing.T) {
	for name, failure := range map[string]error{
		"exit": &engine.ExitError{Command: "say", Code: 1, Stderr: "bad token s3cret-long"}, "other": errors.New("cannot send s3cret-long"),
	} {
		w := newWorld()
		w.hook["m1 say token=s3cret-long s3cret"] = func(context.Context) error { return fmt.Errorf("say: %w", failure) }
		rep := w.run(t, one("  - {id: a, action: say}\n"))
		require.Error(t, rep.Err)
		require.NotContains(t, rep.Err.Error(), "s3cret", name)
		require.Contains(t, rep.Err.Error(), "***", name)
		require.NotContains(t, fmt.Sprintf("%+v", w.events), "s3cret-long", name)
		require.NotContains(t, rep.Err.Error(), "-long", "the longest secret is masked first")
	}
}

func TestForksBoundTheHostsAtOnce(t *testing.T) {
	w := newWorld()
	arrived, release := make(chan struct{}, 3), make(chan struct{})
	for _, h := range []string{"m1", "m2", "m3"} {
		w.hook[h+" get a"] = func(context.Context) error { arrived <- struct{}{}; <-release; return nil }
	}
	r := w.runner()
	r.Forks = 2
	plan := compile(t, "plays:\n- {name: p, hosts: all, steps: [{id: a, action: look, with: {key: a}}]}\n")
	done := make(chan *engine.Report)
	go func() { done <- r.Run(context.Background(), plan, engine.Origin{}) }()
	<-arrived
	<-arrived
	require.Empty(t, arrived, "the third waits for a slot")
	close(release)
	require.NoError(t, (<-done).Err)
}
