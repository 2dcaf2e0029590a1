package actions

import (
	"context"
	"fmt"

	"certbook/engine"
)

// Confirm waits for a human's yes.
type Confirm struct {
	Message string `yaml:"message" required:"true" doc:"the question"`

	ask      func(ctx context.Context, question string) (bool, error)
	answered bool
}

func confirmSpec(c Context) engine.Spec {
	return engine.Spec{
		New:     func() engine.Action { return &Confirm{ask: c.Ask} },
		Summary: "ask a person before going on",
		Doc: `Asks on the terminal and fails unless the answer is yes. With --yes the answer
is taken as given; without a terminal and without --yes it fails.`,
		Example: `- id: go_on
  action: confirm
  with: {message: "m1 is renewed and healthy. Go on with the other masters?"}`,
	}
}

var _ engine.Waiter = (*Confirm)(nil)

// Check implements engine.Action.
func (a *Confirm) Check(context.Context, engine.Probe) (engine.Result, error) {
	if a.answered {
		return engine.Result{}, nil
	}
	return engine.Result{Changes: []engine.Change{{Subject: "a person", To: fmt.Sprintf("asked: %s", a.Message)}}}, nil
}

// Apply implements engine.Applier.
func (a *Confirm) Apply(ctx context.Context, _ engine.Host) error {
	yes, err := a.ask(ctx, a.Message)
	if err != nil {
		return err
	}
	if !yes {
		return fmt.Errorf("answered no to %q", a.Message)
	}
	a.answered = true
	return nil
}

// Waits implements engine.Waiter.
func (a *Confirm) Waits() {}
