package engine

import (
	"context"
	"time"
)

// Action is the verb of a step: a pointer to a struct whose fields are the
// step's arguments. The engine makes a new one for each step and host, so an
// action may keep what Check saw until Apply and the second Check.
//
// Argument fields carry tags: yaml (the name; snake_case), doc (one sentence),
// and optionally default (as written in YAML; ${...} is allowed), enum
// (values separated by |), required:"true" and secret:"true" (a string that may
// hold a secret, as it goes to standard input and nowhere else). Field types are
// string, bool, int, float64, schema.Duration, and slices, maps and structs of
// these.
type Action interface {
	// Check compares what is with what should be. It is handed a Probe and
	// changes nothing. Without Changes the step is satisfied. An action that
	// has no Apply is an assertion or a question: it fails by an error.
	Check(ctx context.Context, p Probe) (Result, error)
}

// Applier is an action that makes the changes which Check found. The engine
// calls Check again afterwards; the step succeeds only without Changes then.
type Applier interface {
	Action
	Apply(ctx context.Context, h Host) error
}

// Reverter is an action that can undo its Apply, also one that failed half
// way. Revert is called at most once, in reverse order of the steps, under a
// context that an interrupt does not cancel.
type Reverter interface {
	Applier
	Revert(ctx context.Context, h Host) error
}

// Follower marks an action whose object follows from files that other steps
// write, as a running process follows from the certificates it has read. After
// a rollback the engine checks and applies it again, in forward order.
type Follower interface {
	Applier

	// Follow is called before that: the files have changed again, so whatever
	// Apply noted of its own work counts no more.
	Follow()
}

// Keeper is an action that takes something for as long as the run lasts, such as
// a lock. That is no change: Check finds none, and says by an error that it cannot
// be taken. A plan only checks.
type Keeper interface {
	Action

	// Take is called once Check is satisfied. It returns how often Renew is to be
	// called, 0 when there is nothing to keep. Its Result is the step's.
	Take(ctx context.Context, h Host) (res Result, renew time.Duration, err error)

	// Renew is called while other steps work on the host. An error says that
	// what was taken is another's now: the run begins no further step.
	Renew(ctx context.Context, h Host) error

	// Release is called at the end of the run, however it ends.
	Release(ctx context.Context, h Host) error
}

// Validator is an action with rules that go beyond the types of its
// arguments. Validate is called at compile time when no argument depends on
// the run, else just before Check.
type Validator interface {
	Validate() error
}

// Result is what Check found.
type Result struct {
	Changes  []Change // what is not as it should be; Apply would change it
	Done     []Change // what this action has changed and now proves, with evidence
	Outputs  any      // the action's outputs: a struct of the type that Spec.Outputs declares
	Warnings []string // what a person should know; never fails a step

	// Unchanged says, after Apply, that it turned out to change nothing: the
	// step is then ok, not changed.
	Unchanged bool
}

// Change is one difference between what is and what should be. It never holds
// a secret.
type Change struct {
	Subject string            `json:"subject"`          // what: "apiserver", "/root/.kube/config", "kube-scheduler"
	Path    string            `json:"path,omitempty"`   // the file that Apply writes, if it writes one: later steps of a plan see it as pending
	From    string            `json:"from,omitempty"`   // how it is, in a few words
	To      string            `json:"to,omitempty"`     // how it should be or now is
	Before  map[string]string `json:"before,omitempty"` // evidence: serial, sha256, not_after, container, ...
	After   map[string]string `json:"after,omitempty"`
}

// Spec describes an action to the compiler, to the documentation and to the
// JSON Schemas.
type Spec struct {
	New     func() Action // a new action with its defaults unset; the decoder fills them in
	Outputs any           // zero value of the outputs struct, whose fields carry expr and doc tags; nil when there are none
	Summary string        // one line, without a period
	Doc     string        // paragraphs: what it promises, what it refuses
	Example string        // YAML of one step
}

// Registry maps an action's name to its description.
type Registry map[string]Spec

// Waiter marks an action whose Apply only waits and leaves nothing behind.
type Waiter interface {
	Applier
	Waits()
}

// Preparer marks an action whose Apply makes something that nobody uses before
// another step does: a host with it is as it was.
type Preparer interface {
	Applier
	Prepares()
}
