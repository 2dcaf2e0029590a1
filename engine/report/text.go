package report

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"certbook/engine"
)

// Plan writes what a plan would change, host by host and step by step.
func Plan(w io.Writer, rep *engine.Report, s Style) {
	changes, pending := 0, 0
	for _, host := range rep.Order {
		fmt.Fprintf(w, "%s\n", clean(host))
		if err := rep.Hosts[host].Err; err != nil && len(rep.Steps[host]) == 0 {
			fmt.Fprintf(w, "  %s %s\n", s.paint(red, "unreachable:"), clean(err.Error()))
		}
		for _, step := range rep.Steps[host] {
			planStep(w, step, s)
			changes += len(step.Changes)
			if step.Status == "pending" {
				pending++
			}
		}
	}
	switch {
	case rep.Err != nil:
		fmt.Fprintf(w, "\n%s\n", s.paint(red, "This plan cannot be carried out as it stands."))
	case changes == 0 && pending == 0:
		fmt.Fprintf(w, "\nNothing would change.\n")
	default:
		fmt.Fprintf(w, "\n%s would be made", count(changes, "change"))
		if pending > 0 {
			fmt.Fprintf(w, "; %s can be judged only then", count(pending, "step"))
		}
		fmt.Fprintln(w, ".")
	}
}

func planStep(w io.Writer, step *engine.StepReport, s Style) {
	switch step.Status {
	case "planned":
		fmt.Fprintf(w, "  %-22s %s\n", step.ID, s.paint(yellow, step.Action))
		for _, c := range step.Changes {
			fmt.Fprintf(w, "      %s %s\n", s.paint(yellow, "~"), Describe(c))
		}
	case "pending", "skipped":
		fmt.Fprintf(w, "  %-22s %s\n", step.ID, s.paint(dim, step.Status+": "+clean(step.Reason)))
	case "failed":
		fmt.Fprintf(w, "  %-22s %s %s\n", step.ID, s.paint(red, "would fail:"), clean(step.Reason))
	default:
		fmt.Fprintf(w, "  %-22s nothing to change\n", step.ID)
	}
	for _, warning := range step.Warnings {
		fmt.Fprintf(w, "      %s %s\n", s.paint(yellow, "warning:"), clean(warning))
	}
}

// Result writes how a run ended: what was changed where, and the time it took.
func Result(w io.Writer, rep *engine.Report, s Style) {
	changed := 0
	for _, host := range rep.Order {
		fmt.Fprintf(w, "%s: %s\n", clean(host), s.outcome(hostOutcome(rep, host)))
		for _, step := range rep.Steps[host] {
			if step.Status == "changed" {
				changed++
			}
			for _, c := range step.Done {
				fmt.Fprintf(w, "  %-22s %s\n", step.ID, Describe(c))
			}
			if step.Status == "failed" {
				fmt.Fprintf(w, "  %-22s %s %s\n", step.ID, s.paint(red, "failed:"), clean(step.Reason))
			}
		}
	}
	if rep.Outcome == engine.OutcomeOK && changed == 0 {
		fmt.Fprintln(w, "Nothing was changed.")
	}
	fmt.Fprintf(w, "run %s: %s\n", rep.Run.ID, s.outcome(rep.Outcome))
}

// hostOutcome returns how a run ended on a host. One that did well in the plays
// that were carried out, but was to do more, is not OK: it was interrupted, or
// with "" not reached, as another host failed.
func hostOutcome(rep *engine.Report, host string) engine.Outcome {
	outcome := rep.Hosts[host].Outcome
	left := slices.ContainsFunc(rep.Left, func(step string) bool { return strings.HasPrefix(step, host+"/") })
	switch {
	case outcome != engine.OutcomeOK || !left || rep.Run.Plan:
		return outcome
	case rep.Outcome == engine.OutcomeInterrupted:
		return engine.OutcomeInterrupted
	}
	return ""
}

func (s Style) outcome(o engine.Outcome) string {
	text := map[engine.Outcome]string{
		engine.OutcomeOK:          "ok",
		engine.OutcomeUnchanged:   "failed, nothing was changed",
		engine.OutcomeReverted:    "failed, and everything is as it was before",
		engine.OutcomePartial:     "failed, a person is needed",
		engine.OutcomeInterrupted: "interrupted",
		"":                        "not reached",
	}[o]
	switch o {
	case engine.OutcomeOK:
		return s.paint(green, text)
	case engine.OutcomePartial, engine.OutcomeUnchanged, engine.OutcomeReverted:
		return s.paint(red, text)
	}
	return s.paint(yellow, text)
}

// document is the JSON form of a report.
type document struct {
	APIVersion string         `json:"apiVersion"`
	Run        string         `json:"run"`
	Plan       bool           `json:"plan"`
	Started    time.Time      `json:"started"`
	Outcome    engine.Outcome `json:"outcome"`
	Error      string         `json:"error,omitempty"`
	Left       []string       `json:"left,omitempty"`
	Hosts      []hostDocument `json:"hosts"`
}

type hostDocument struct {
	Name    string         `json:"name"`
	Outcome engine.Outcome `json:"outcome"`
	Error   string         `json:"error,omitempty"`
	Steps   []stepDocument `json:"steps"`
}

type stepDocument struct {
	ID       string          `json:"id"`
	Action   string          `json:"action"`
	Status   string          `json:"status"`
	Reason   string          `json:"reason,omitempty"`
	Changes  []engine.Change `json:"changes,omitempty"`
	Done     []engine.Change `json:"done,omitempty"`
	Warnings []string        `json:"warnings,omitempty"`
	Outputs  any             `json:"outputs,omitempty"`
	Millis   int64           `json:"ms"`
}

// JSON writes a report as one JSON document.
func JSON(w io.Writer, rep *engine.Report) error {
	doc := document{APIVersion: "certbook/v1", Run: rep.Run.ID, Plan: rep.Run.Plan, Started: rep.Run.Started, Outcome: rep.Outcome, Left: rep.Left}
	if rep.Err != nil {
		doc.Error = rep.Err.Error()
	}
	for _, name := range rep.Order {
		h := hostDocument{Name: name, Outcome: hostOutcome(rep, name), Steps: []stepDocument{}}
		if err := rep.Hosts[name].Err; err != nil {
			h.Error = err.Error()
		}
		for _, s := range rep.Steps[name] {
			h.Steps = append(h.Steps, stepDocument{ID: s.ID, Action: s.Action, Status: s.Status, Reason: s.Reason,
				Changes: s.Changes, Done: s.Done, Warnings: s.Warnings, Outputs: s.Outputs, Millis: s.Duration.Milliseconds()})
		}
		doc.Hosts = append(doc.Hosts, h)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}
