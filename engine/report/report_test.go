package report_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"certbook/engine"
	"certbook/engine/report"

	"github.com/stretchr/testify/require"
)

// hostile is a text that a host may send: it ends the line, clears the screen,
// rings, sets the window's title in C1 and turns the direction of what follows.
const hostile = "a\nb\x1b[2J\a\u009b0;x\u202ecod"

const harmless = "a b?[2J??0;x?cod"

func TestHostileTextIsHarmless(t *testing.T) {
	change := engine.Change{Subject: hostile, From: hostile, To: hostile}
	require.Equal(t, harmless+": "+harmless+" -> "+harmless, report.Describe(change))

	var out bytes.Buffer
	p := report.Progress{W: &out, Style: report.Style{Verbose: true}}
	for _, e := range []engine.Event{
		{Kind: engine.HostUnreachable, Host: "m1", Error: hostile},
		{Kind: engine.HostLocked, Host: "m1", Error: hostile},
		{Kind: engine.LockTakenOver, Host: "m1", Message: hostile},
		{Kind: engine.LockLost, Host: "m1", Error: hostile},
		{Kind: engine.StepSkipped, Host: "m1", Step: "s", Message: hostile},
		{Kind: engine.StepPending, Host: "m1", Step: "s", Message: hostile},
		{Kind: engine.StepPlanned, Host: "m1", Step: "s", Changes: []engine.Change{change}},
		{Kind: engine.StepIntent, Host: "m1", Step: "s", Changes: []engine.Change{change, change}},
		{Kind: engine.StepChanged, Host: "m1", Step: "s", Done: []engine.Change{change}},
		{Kind: engine.StepRetry, Host: "m1", Step: "s", Message: "again", Error: hostile},
		{Kind: engine.StepFailed, Host: "m1", Step: "s", Error: hostile},
		{Kind: engine.RevertFailed, Host: "m1", Step: "s", Error: hostile},
		{Kind: engine.CommandRun, Host: "m1", Step: "s", Argv: hostile},
		{Kind: engine.FileWritten, Host: "m1", Step: "s", Path: hostile},
		{Kind: engine.StepOK, Host: hostile, Step: "s"}, // of a log that somebody wrote
		{Kind: engine.StepOK, Host: "m1", Step: hostile},
		{Kind: engine.RunStarted, Run: hostile, Origin: &engine.Origin{}},
		{Kind: engine.RunStarted, Run: "r", Origin: &engine.Origin{Playbook: hostile}},
		{Kind: engine.PlayStarted, Play: hostile, Hosts: []string{"m1"}},
		{Kind: engine.PlayStarted, Play: "p", Hosts: []string{"m1", hostile}},
		{Kind: engine.Interrupted, Message: hostile},
	} {
		out.Reset()
		p.Emit(e)
		oneHarmlessLine(t, out.String(), e.Kind)
		e.Kind, e.Warnings = engine.StepStarted, []string{hostile}
		out.Reset()
		p.Emit(e)
		oneHarmlessLine(t, out.String(), "warning")
	}

	rep := sample()
	rep.Hosts["m1"].Err = errors.New(hostile)
	for _, s := range rep.Steps["m1"] {
		s.Reason, s.Warnings, s.Changes, s.Done = hostile, []string{hostile}, []engine.Change{change}, []engine.Change{change}
	}
	for _, write := range []func(){
		func() { report.Plan(&out, rep, report.Style{}) },
		func() { report.Result(&out, rep, report.Style{}) },
	} {
		out.Reset()
		write()
		require.Contains(t, out.String(), harmless)
		require.NotContains(t, out.String(), "\nb")
		require.NotRegexp(t, `[^\n\x20-\x7e]`, out.String())
	}
}

func oneHarmlessLine(t *testing.T, text string, kind engine.Kind) {
	t.Helper()
	require.Contains(t, text, harmless, kind)
	require.Regexp(t, `\A[\x20-\x7e]+\n\z`, text, kind)
}

// sample is a run on two hosts that failed on the first.
func sample() *engine.Report {
	return &engine.Report{
		Run:     engine.RunInfo{ID: "R", Started: time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)},
		Outcome: engine.OutcomePartial, Err: errors.New("m1: two: broken"), Left: []string{"m1/two", "m2/one", "m2/two"},
		Order: []string{"m1", "m2"},
		Hosts: map[string]*engine.HostReport{
			"m1": {Outcome: engine.OutcomePartial, Err: errors.New("two: broken")},
			"m2": {Outcome: engine.OutcomeOK},
		},
		Steps: map[string][]*engine.StepReport{
			"m1": {
				{ID: "one", Action: "run-command", Status: "changed", Done: []engine.Change{{Subject: "touch f", From: "", To: "run"}}, Duration: 1500 * time.Millisecond},
				{ID: "two", Action: "assert", Status: "failed", Reason: "broken"},
			},
			"m2": {{ID: "look", Action: "assert", Status: "ok"}},
		},
	}
}

func TestResult(t *testing.T) {
	var out bytes.Buffer
	report.Result(&out, sample(), report.Style{})
	require.Equal(t, `m1: failed, a person is needed
  one                    touch f: run
  two                    failed: broken
m2: not reached
run R: failed, a person is needed
`, out.String())

	rep := sample()
	rep.Outcome, rep.Left = engine.OutcomeInterrupted, []string{"m2/one"}
	rep.Hosts["m1"].Outcome = engine.OutcomeOK
	out.Reset()
	report.Result(&out, rep, report.Style{Color: true})
	require.Contains(t, out.String(), "m1: \x1b[32mok\x1b[0m\n")
	require.Contains(t, out.String(), "m2: \x1b[33minterrupted\x1b[0m\n")

	rep = &engine.Report{Run: engine.RunInfo{ID: "R"}, Outcome: engine.OutcomeOK, Order: []string{"m2"},
		Hosts: map[string]*engine.HostReport{"m2": {Outcome: engine.OutcomeOK}}, Steps: sample().Steps}
	out.Reset()
	report.Result(&out, rep, report.Style{})
	require.Equal(t, "m2: ok\nNothing was changed.\nrun R: ok\n", out.String())
}

func TestPlan(t *testing.T) {
	rep := sample()
	rep.Err, rep.Outcome, rep.Run.Plan = nil, engine.OutcomeOK, true
	rep.Steps["m1"] = []*engine.StepReport{
		{ID: "one", Action: "run-command", Status: "planned", Changes: []engine.Change{{Subject: "f", From: "old", To: "new"}}, Warnings: []string{"late"}},
		{ID: "two", Action: "assert", Status: "pending", Reason: "judged after step one"},
		{ID: "three", Action: "assert", Status: "skipped", Reason: "not needed: false"},
		{ID: "four", Action: "assert", Status: "ok"},
	}
	rep.Steps["m2"] = nil
	rep.Hosts["m2"].Err = errors.New("no route")
	var out bytes.Buffer
	report.Plan(&out, rep, report.Style{})
	require.Equal(t, `m1
  one                    run-command
      ~ f: old -> new
      warning: late
  two                    pending: judged after step one
  three                  skipped: not needed: false
  four                   nothing to change
m2
  unreachable: no route

1 change would be made; 1 step can be judged only then.
`, out.String())
}

func TestJSON(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, report.JSON(&out, sample()))
	var doc map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &doc))
	require.Equal(t, map[string]any{
		"apiVersion": "certbook/v1", "run": "R", "plan": false, "started": "2026-11-24T08:00:00Z", "outcome": "partial",
		"error": "m1: two: broken", "left": []any{"m1/two", "m2/one", "m2/two"},
		"hosts": []any{
			map[string]any{"name": "m1", "outcome": "partial", "error": "two: broken", "steps": []any{
				map[string]any{"id": "one", "action": "run-command", "status": "changed", "ms": 1500.0,
					"done": []any{map[string]any{"subject": "touch f", "to": "run"}}},
				map[string]any{"id": "two", "action": "assert", "status": "failed", "reason": "broken", "ms": 0.0},
			}},
			map[string]any{"name": "m2", "outcome": "", "steps": []any{
				map[string]any{"id": "look", "action": "assert", "status": "ok", "ms": 0.0},
			}},
		},
	}, doc)
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := report.Progress{W: &out, Times: true}
	at := time.Date(2026, 11, 24, 8, 0, 0, 5e6, time.FixedZone("", 3600))
	for _, e := range []engine.Event{
		{Kind: engine.RunStarted, Run: "R", Hosts: []string{"m1", "master-2"}, Origin: &engine.Origin{Playbook: "renew"}},
		{Kind: engine.PlayStarted, Play: "one", Hosts: []string{"m1", "master-2"}},
		{Kind: engine.StepStarted, Host: "m1", Step: "s"},                        // no line
		{Kind: engine.StepSkipped, Host: "m1", Step: "s", Message: "not needed"}, // only with Verbose
		{Kind: engine.StepOK, Host: "m1", Step: "s", Warnings: []string{"late"}},
		{Kind: engine.StepChanged, Host: "master-2", Step: "s", Millis: 1234, Done: []engine.Change{{Subject: "a"}, {Subject: "b"}}},
	} {
		e.Time = at
		p.Emit(e)
	}
	require.Equal(t, `07:00:00.005 run R of renew on 2 hosts
07:00:00.005 play one on m1, master-2
07:00:00.005   m1        s                      ok
07:00:00.005   m1        s                      warning  late
07:00:00.005   master-2  s                      changed  a, b, in 1.23s
`, out.String())
}
