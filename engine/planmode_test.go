package engine_test

import (
	"context"
	"strings"
	"testing"

	"certbook/engine"

	"github.com/stretchr/testify/require"
)

// frozen fails the test when it is changed.
type frozen struct {
	machine
	t *testing.T
}

func (f *frozen) Exec(_ context.Context, c engine.Command) (engine.Output, error) {
	f.t.Errorf("a plan ran %s", c)
	return engine.Output{}, nil
}

func (f *frozen) WriteFile(_ context.Context, path string, _ []byte, _ engine.FileOptions) error {
	f.t.Errorf("a plan wrote %s", path)
	return nil
}

func (f *frozen) Install(_ context.Context, _, path string, _ engine.FileOptions) error {
	f.t.Errorf("a plan installed %s", path)
	return nil
}

func (f *frozen) ReadSecret(_ context.Context, path string) ([]byte, error) {
	f.t.Errorf("a plan read the secret %s", path)
	return nil, nil
}

func (w *world) plan(t *testing.T, plays string) *engine.Report {
	t.Helper()
	c := compiler(t, plays)
	c.Run.Plan = true
	p, err := c.Compile()
	require.NoError(t, err)
	r := w.runner()
	r.Dial = func(_ context.Context, name string) (engine.Host, error) {
		return &frozen{machine{w: w, name: name}, t}, nil
	}
	return r.Run(context.Background(), p, engine.Origin{})
}

func statuses(rep *engine.Report, host string) []string {
	var list []string
	for _, s := range rep.Steps[host] {
		text := s.ID + " " + s.Status
		if s.Reason != "" {
			text += ": " + s.Reason
		}
		list = append(list, text)
	}
	return list
}

func TestPlanChangesNothing(t *testing.T) {
	w := newWorld()
	w.keys["m1/b"], w.keys["m1/bad"] = "done", "bad"
	rep := w.plan(t, one(`  - {id: first, action: look}
  - {id: a, action: put, with: {key: a, path: /etc/a}}
  - {id: b, action: put, with: {key: b}}
  - {id: off, action: put, when: steps.first.count > 0, with: {key: c}}
  - {id: cond, action: put, when: steps.a.changed, with: {key: c}}
  - {id: chained, action: put, when: steps.cond.changed, with: {key: c}}
  - {id: computed, action: put, when: 'any(["a"], steps[#].changed)', with: {key: c}}
  - {id: arg, action: put, with: {key: c, value: "${steps.a.have}"}}
  - {id: far, action: put, when: hosts.m1.steps.a.changed, with: {key: c}}
  - {id: reads, action: look, with: {reads: /etc/a}}
  - {id: writes, action: put, with: {key: b, reads: /etc/a}}
  - {id: rests, action: put, with: {key: b, reads: /etc/b}}
  - {id: fails, action: look, with: {key: bad}}
  - {id: fine, action: look}
`))
	require.NoError(t, rep.Err)
	require.Equal(t, engine.OutcomeOK, rep.Outcome)
	require.Equal(t, []string{
		"first ok", "a planned", "b ok", "off skipped: not needed: steps.first.count > 0",
		"cond pending: its condition depends on step a", "chained pending: its condition depends on step cond",
		"computed pending: its condition depends on step a", "arg pending: its arguments depend on step a",
		"far pending: its condition depends on step m1/a",
		"reads pending: judged after step a", "writes planned", "rests ok", "fails pending: judged after the changes; today: it is bad", "fine ok",
	}, statuses(rep, "m1"))
	require.Empty(t, rep.Left)
	for _, e := range w.events {
		require.NotContains(t, []engine.Kind{engine.StepIntent, engine.StepChanged, engine.StepReverted, engine.FileWritten}, e.Kind)
	}
	require.True(t, w.events[0].Origin.Plan)
}

func TestPlanOfAnAssertionThatFailsToday(t *testing.T) {
	w := newWorld()
	w.keys["m1/bad"] = "bad"
	rep := w.plan(t, one("  - {id: x, action: look, with: {key: bad}}\n  - {id: y, action: look}\n"))
	require.EqualError(t, rep.Err, "m1: x: it is bad")
	require.Equal(t, engine.OutcomeUnchanged, rep.Outcome)

	// A change without a file, such as a restart, is a change all the same.
	rep = w.plan(t, one("  - {id: a, action: follow, with: {key: f, of: bad}}\n  - {id: x, action: look, with: {key: bad}}\n"))
	require.NoError(t, rep.Err)
	require.Equal(t, []string{"a planned", "x pending: judged after the changes; today: it is bad"}, statuses(rep, "m1"))
}

func TestPlanRunsFinallyAndAllBatches(t *testing.T) {
	w := newWorld()
	rep := w.plan(t, "plays:\n- {name: p, hosts: all, serial: 1, steps: [{id: a, action: set, with: {key: a}}], finally: [{id: z, action: set, with: {key: z}}]}\n")
	require.NoError(t, rep.Err)
	for _, host := range []string{"m1", "m2", "m3"} {
		require.Equal(t, "a planned z planned", strings.Join(statuses(rep, host), " "))
	}
}
