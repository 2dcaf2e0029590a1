package actions

import (
	"context"
	"errors"

	"certbook/engine"
)

// Assert fails unless a value is true.
type Assert struct {
	That      bool   `yaml:"that" required:"true" doc:"what must be true, an expression: \"${steps.expiry.expired == 0}\""`
	Attention bool   `yaml:"attention" doc:"when it is not, nothing is wrong, but a person has something to do first, elsewhere; a run that only fails by that, before it has changed anything, ends with exit code 3"`
	Message   string `yaml:"message" default:"the assertion does not hold" doc:"what to say when it is not"`
	Warning   string `yaml:"warning" doc:"what a person should know when it is; nothing when empty"`
}

func assertSpec() engine.Spec {
	return engine.Spec{
		New:     func() engine.Action { return &Assert{} },
		Summary: "fail unless an expression is true",
		Doc:     `Reads and changes nothing. In a plan, an assertion on the result of a step that would make changes is shown as pending.`,
		Example: `- id: no_expired_ca
  action: assert
  with:
    that: ${steps.expiry.ca_due == 0}
    message: a CA is about to end; rotate it first`,
	}
}

var _ engine.Action = (*Assert)(nil)

// Check implements engine.Action.
func (a *Assert) Check(context.Context, engine.Probe) (engine.Result, error) {
	switch {
	case !a.That && a.Attention:
		return engine.Result{}, &engine.AttentionError{What: a.Message}
	case !a.That:
		return engine.Result{}, errors.New(a.Message)
	}
	if a.Warning != "" {
		return engine.Result{Warnings: []string{a.Warning}}, nil
	}
	return engine.Result{}, nil
}
