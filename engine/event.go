package engine

import "time"

// Kind says what an Event is about.
type Kind string

// The kinds of events, in the order in which a run brings them.
const (
	RunStarted      Kind = "run-started"
	LockTakenOver   Kind = "lock-taken-over" // of a run that has left it
	HostLocked      Kind = "host-locked"     // by another run; this one ends before it begins
	PlayStarted     Kind = "play-started"
	BatchStarted    Kind = "batch-started"
	HostConnected   Kind = "host-connected"
	HostUnreachable Kind = "host-unreachable"
	StepStarted     Kind = "step-started"
	StepSkipped     Kind = "step-skipped" // its condition is false, or an overlay turned it off
	StepPending     Kind = "step-pending" // plan: it hangs on something that the plan withholds
	StepPlanned     Kind = "step-planned" // plan: Changes would be made
	StepOK          Kind = "step-ok"      // nothing to change
	StepIntent      Kind = "step-intent"  // Changes are about to be made
	StepChanged     Kind = "step-changed" // Done is proven
	StepRetry       Kind = "step-retry"
	StepFailed      Kind = "step-failed"
	StepReverted    Kind = "step-reverted"
	RevertFailed    Kind = "revert-failed"
	CommandRun      Kind = "command"
	FileWritten     Kind = "file-written"
	LockLost        Kind = "lock-lost" // nothing more is changed on the host, or its lock is left
	HostFinished    Kind = "host-finished"
	Interrupted     Kind = "interrupted"
	RunFinished     Kind = "run-finished"
)

// Durable reports whether an event of this kind must be on stable storage
// before the run goes on.
func (k Kind) Durable() bool {
	switch k {
	case RunStarted, LockTakenOver, HostLocked, LockLost, StepIntent, StepChanged, StepFailed, StepReverted, RevertFailed, HostFinished, Interrupted, RunFinished:
		return true
	}
	return false
}

// Event is one fact about a run. It never holds a secret.
type Event struct {
	Time     time.Time      `json:"time"`
	Kind     Kind           `json:"event"`
	Run      string         `json:"run"`
	Play     string         `json:"play,omitempty"`
	Host     string         `json:"host,omitempty"`
	Step     string         `json:"step,omitempty"`
	Action   string         `json:"action,omitempty"`
	Attempt  int            `json:"attempt,omitempty"` // from 1
	Message  string         `json:"message,omitempty"`
	Error    string         `json:"error,omitempty"`
	Changes  []Change       `json:"changes,omitempty"` // planned or intended
	Done     []Change       `json:"done,omitempty"`    // made and proven
	Warnings []string       `json:"warnings,omitempty"`
	Argv     string         `json:"argv,omitempty"`   // of a command, secrets masked
	Code     int            `json:"code,omitempty"`   // its exit status
	Path     string         `json:"path,omitempty"`   // of a written file
	Before   string         `json:"before,omitempty"` // SHA-256 of what it was, "-" when it was not there
	After    string         `json:"after,omitempty"`  // SHA-256 of what it is
	Millis   int64          `json:"ms,omitempty"`     // duration in milliseconds
	Hosts    []string       `json:"hosts,omitempty"`
	Left     []string       `json:"left,omitempty"` // what was not done: host/step
	Outcome  Outcome        `json:"outcome,omitempty"`
	Origin   *Origin        `json:"origin,omitempty"` // on run-started
	Outputs  map[string]any `json:"-"`                // of a step, for views
	Redacted int            `json:"-"`                // values that were taken out of it because they are, or look like, secrets
}

// Origin says who runs what from where.
type Origin struct {
	User      string            `json:"user"`
	Machine   string            `json:"machine"`
	Version   string            `json:"version"`
	Playbook  string            `json:"playbook"`
	Documents map[string]string `json:"documents"` // name to SHA-256
	Plan      bool              `json:"plan,omitempty"`

	Invocation *Invocation `json:"invocation,omitempty"`
	Resumes    string      `json:"resumes,omitempty"` // the run that this one goes on with
	Undoes     string      `json:"undoes,omitempty"`  // the run that this one brings back
}

// Invocation is what a run was started with, so that it can be resumed.
type Invocation struct {
	Playbook  string   `json:"playbook"` // name or file
	Inventory string   `json:"inventory,omitempty"`
	Overlays  []string `json:"overlays,omitempty"`
	Set       []string `json:"set,omitempty"` // NAME=VALUE
	Limit     string   `json:"limit,omitempty"`
	Root      string   `json:"root,omitempty"`
}

// Outcome is how a run, or a host in it, ended.
type Outcome string

// The outcomes. For a run they decide the exit code.
const (
	OutcomeOK          Outcome = "ok"          // as wished
	OutcomeUnchanged   Outcome = "unchanged"   // failed before anything was changed
	OutcomeReverted    Outcome = "reverted"    // failed, and everything is as before, proven
	OutcomePartial     Outcome = "partial"     // failed, and a person is needed
	OutcomeInterrupted Outcome = "interrupted" // stopped on request
)
