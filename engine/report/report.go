// Package report turns a run's events and its engine.Report into what people
// and programs read: progress lines, a plan, a summary, JSON.
//
// Texts that come from hosts are stripped of control characters here.
package report

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"certbook/engine"
)

// Style says how text is shown.
type Style struct {
	Color   bool // ANSI colours; meaning never depends on them
	Verbose bool // commands and files as well
}

const (
	red    = "31"
	green  = "32"
	yellow = "33"
	dim    = "2"
)

func (s Style) paint(color, text string) string {
	if !s.Color || text == "" {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// clean makes a text from a host safe for a terminal: one line, without control
// characters and those that turn the direction of the text.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
}

// Progress writes one line for each event that a person wants to see.
type Progress struct {
	Style
	W     io.Writer
	Times bool // begin each line with the time of the event, in UTC
	width int  // of the longest host name seen
}

// Emit shows an event.
func (p *Progress) Emit(e engine.Event) {
	switch e.Kind {
	case engine.RunStarted:
		for _, h := range e.Hosts {
			p.width = max(p.width, len(h))
		}
		verb := "run"
		if e.Origin != nil && e.Origin.Plan {
			verb = "plan"
		}
		if e.Origin != nil {
			p.printf(e, "%s %s of %s on %s\n", verb, clean(e.Run), clean(e.Origin.Playbook), count(len(e.Hosts), "host"))
		}
	case engine.PlayStarted:
		p.printf(e, "%s\n", p.paint(dim, "play "+clean(e.Play+" on "+strings.Join(e.Hosts, ", "))))
	case engine.HostUnreachable:
		p.step(e, p.paint(red, "unreachable"), e.Error)
	case engine.HostLocked:
		p.step(e, p.paint(red, "locked"), e.Error)
	case engine.LockTakenOver:
		p.step(e, p.paint(yellow, "lock taken over"), e.Message)
	case engine.LockLost:
		p.step(e, p.paint(red, "lock lost"), e.Error)
	case engine.StepOK:
		p.step(e, "ok", "")
	case engine.StepSkipped:
		if p.Verbose || strings.HasPrefix(e.Message, "turned off") {
			p.step(e, p.paint(dim, "skipped"), e.Message)
		}
	case engine.StepPending:
		p.step(e, p.paint(dim, "pending"), e.Message)
	case engine.StepPlanned:
		p.step(e, p.paint(yellow, "would change"), summary(e.Changes))
	case engine.StepIntent:
		p.step(e, p.paint(dim, "changing"), summary(e.Changes))
	case engine.StepChanged:
		p.step(e, p.paint(green, "changed"), took(e))
	case engine.StepRetry:
		p.step(e, p.paint(yellow, "retry"), e.Message+": "+e.Error)
	case engine.StepFailed:
		p.step(e, p.paint(red, "failed"), e.Error)
	case engine.StepReverted:
		p.step(e, p.paint(yellow, "reverted"), took(e))
	case engine.RevertFailed:
		p.step(e, p.paint(red, "revert failed"), e.Error)
	case engine.Interrupted:
		p.printf(e, "%s\n", p.paint(yellow, "interrupted: "+clean(e.Message)))
	case engine.CommandRun:
		if p.Verbose {
			p.step(e, p.paint(dim, fmt.Sprintf("exit %d", e.Code)), e.Argv)
		}
	case engine.FileWritten:
		if p.Verbose {
			p.step(e, p.paint(dim, "wrote"), e.Path)
		}
	}
	for _, w := range e.Warnings {
		p.step(e, p.paint(yellow, "warning"), w)
	}
}

func (p *Progress) printf(e engine.Event, format string, args ...any) {
	if p.Times {
		format, args = "%s "+format, append([]any{e.Time.UTC().Format("15:04:05.000")}, args...)
	}
	fmt.Fprintf(p.W, format, args...)
}

func (p *Progress) step(e engine.Event, word, detail string) {
	line := fmt.Sprintf("  %-*s  %-22s %s", p.width, clean(e.Host), clean(e.Step), word)
	if detail != "" {
		line += "  " + clean(detail)
	}
	p.printf(e, "%s\n", line)
}

func took(e engine.Event) string {
	d := time.Duration(e.Millis) * time.Millisecond
	text := "in " + d.Round(10*time.Millisecond).String()
	if len(e.Done) > 0 {
		text = subjects(e.Done) + ", " + text
	}
	return text
}

func summary(changes []engine.Change) string {
	if len(changes) == 1 {
		return Describe(changes[0])
	}
	return subjects(changes)
}

func subjects(changes []engine.Change) string {
	const most = 12
	var names []string
	for i, c := range changes {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(changes)-most))
			break
		}
		names = append(names, c.Subject)
	}
	return strings.Join(names, ", ")
}

// Describe returns a change as one line.
func Describe(c engine.Change) string {
	switch {
	case c.From != "" && c.To != "":
		return clean(c.Subject + ": " + c.From + " -> " + c.To)
	case c.To != "":
		return clean(c.Subject + ": " + c.To)
	case c.From != "":
		return clean(c.Subject + ": " + c.From)
	}
	return clean(c.Subject)
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
