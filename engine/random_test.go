package engine_test

import (
	"context"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"certbook/engine"

	"github.com/stretchr/testify/require"
)

// TestRandomRuns runs random plays with random failures and holds what is true
// of every run.
func TestRandomRuns(t *testing.T) {
	reverted, partial, ok := 0, 0, 0
	for seed := range int64(300) {
		r := rand.New(rand.NewSource(seed))
		plays := randomPlays(r)
		w := newWorld()
		for _, h := range []string{"m1", "m2", "m3"} {
			for s := range 12 {
				for verb, chance := range map[string]float64{"get": 0.02, "set": 0.08, "undo": 0.1} {
					if r.Float64() < chance {
						w.fail[fmt.Sprintf("%s %s k%d", h, verb, s)] = []int{-1, 1, 2}[r.Intn(3)]
					}
				}
				if r.Float64() < 0.2 {
					w.keys[fmt.Sprintf("%s/k%d", h, s)] = "done"
				}
			}
			if r.Float64() < 0.03 {
				w.fail[h+" dial"] = -1
			}
		}
		run := w.runner()
		ctx, cancel := context.WithCancel(context.Background())
		if r.Float64() < 0.1 {
			after := r.Intn(40)
			w.emit = func(engine.Event) error {
				if after--; after == 0 {
					cancel()
				}
				return nil
			}
		}
		before := fmt.Sprint(w.keys)
		plan := compile(t, plays)
		rep := run.Run(ctx, plan, engine.Origin{})
		stopped := ctx.Err() != nil
		cancel()
		note := fmt.Sprintf("seed %d\n%s\n%s\n%s", seed, plays, strings.Join(w.log, "\n"), rep.Outcome)
		checkIntents(t, w, note)
		checkReports(t, w, rep, note)
		checkReverts(t, w, plan, rep, stopped, note)
		switch rep.Outcome {
		case engine.OutcomeReverted, engine.OutcomeUnchanged:
			reverted++
			require.Equal(t, before, fmt.Sprint(w.keys), "everything is as before\n%s", note)
		case engine.OutcomePartial:
			partial++
		case engine.OutcomeOK:
			ok++
			require.NoError(t, rep.Err, note)
			require.Empty(t, rep.Left, note)
		}
	}
	require.Greater(t, min(reverted, partial, ok), 15, "the seeds reach every outcome: %d %d %d", reverted, partial, ok)
}

// randomPlays returns one to three plays whose steps all have keys of their
// own, so that undoing is to delete a key that was not there.
func randomPlays(r *rand.Rand) string {
	var b strings.Builder
	b.WriteString("plays:\n")
	step := 0
	for p := range 1 + r.Intn(3) {
		fmt.Fprintf(&b, "- name: p%d\n  hosts: %s\n  serial: %s\n  on_failure: %s\n  steps:\n", p,
			[]string{"all", "m2", "[m1, m3]"}[r.Intn(3)], []string{"1", "2", "all", "50%"}[r.Intn(4)], []string{"rollback", "rollback", "rollback", "stop", "continue"}[r.Intn(5)])
		for range 1 + r.Intn(4) {
			fmt.Fprintf(&b, "  - {id: s%d, action: put, with: {key: k%d}, retry: {attempts: %d}", step, step, 1+r.Intn(3))
			if step > 0 && r.Intn(4) == 0 {
				fmt.Fprintf(&b, ", when: steps.s%d.changed", r.Intn(step))
			}
			b.WriteString("}\n")
			step++
		}
	}
	return b.String()
}

// checkIntents: nothing is applied without an intent before it.
func checkIntents(t *testing.T, w *world, note string) {
	t.Helper()
	intents := map[string]int{}
	for _, e := range w.events {
		at := e.Host + "/" + e.Step
		switch {
		case e.Kind == engine.StepIntent:
			require.True(t, e.Kind.Durable())
			require.NotEmpty(t, e.Changes)
			intents[at]++
		case e.Kind == engine.CommandRun && strings.HasPrefix(e.Argv, "set "):
			require.Equal(t, 1, intents[at], "one intent for each Apply of %s\n%s", at, note)
			intents[at]--
		}
	}
}

// checkReports: each step that began has one report and one event that ends
// it, and what did not end well is left.
func checkReports(t *testing.T, w *world, rep *engine.Report, note string) {
	t.Helper()
	ends := []engine.Kind{engine.StepOK, engine.StepChanged, engine.StepFailed, engine.StepSkipped}
	started, ended := map[string]int{}, map[string]int{}
	for _, e := range w.events {
		at := e.Host + "/" + e.Step
		if e.Kind == engine.StepStarted {
			started[at]++
		}
		if slices.Contains(ends, e.Kind) {
			ended[at]++
		}
	}
	require.Equal(t, started, ended, note)
	reports := map[string]int{}
	for host, list := range rep.Steps {
		for _, s := range list {
			reports[host+"/"+s.ID]++
			require.Equal(t, s.Status == "failed" || s.Status == "reverted", slices.Contains(rep.Left, host+"/"+s.ID), "%s/%s %s\n%s", host, s.ID, s.Status, note)
		}
	}
	require.Equal(t, started, reports, note)
	last := w.events[len(w.events)-1]
	require.Equal(t, engine.RunFinished, last.Kind)
}

// checkReverts: in a batch that failed under rollback every step that was
// applied is reverted once, the last one first; else none is. A run that is
// stopped at once reverts nothing, unless it was at it already.
func checkReverts(t *testing.T, w *world, plan *engine.Plan, rep *engine.Report, stopped bool, note string) {
	t.Helper()
	policy := map[string]string{}
	for _, p := range plan.Plays {
		policy[p.Name] = p.OnFailure
	}
	for host, report := range rep.Hosts {
		var applied, undone []string // of the last play that worked on the host
		play := ""
		for _, e := range w.events {
			if e.Host != host || e.Step == "" {
				continue
			}
			if e.Play != play {
				require.Empty(t, undone, "a run ends with the batch that is reverted\n%s", note)
				play, applied = e.Play, nil
			}
			switch {
			case e.Kind == engine.CommandRun && strings.HasPrefix(e.Argv, "set ") && !slices.Contains(applied, e.Step):
				applied = append(applied, e.Step)
			case e.Kind == engine.CommandRun && strings.HasPrefix(e.Argv, "undo "):
				undone = append(undone, e.Step)
			}
		}
		if stopped && len(undone) == 0 {
			continue
		}
		if report.Err != nil && policy[play] == "rollback" && play == lastPlay(w, host) {
			slices.Reverse(applied)
			require.Equal(t, applied, undone, "%s\n%s", host, note)
		} else {
			require.Empty(t, undone, "%s\n%s", host, note)
		}
	}
}

// lastPlay returns the play in which the host was last finished.
func lastPlay(w *world, host string) string {
	play := ""
	for _, e := range w.events {
		if e.Host == host && e.Kind == engine.HostFinished {
			play = e.Play
		}
	}
	return play
}
