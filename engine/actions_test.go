package engine_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"certbook/engine"
	"certbook/schema"
)

// setAction makes a key have a value, as most actions do. It cannot be undone.
type setAction struct {
	Key   string `yaml:"key" required:"true" doc:"the key"`
	Value string `yaml:"value" default:"done"`
	Path  string `yaml:"path" doc:"the file that Apply writes"`
	Reads string `yaml:"reads" doc:"a file that Check reads"`
}

func (a *setAction) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	if _, writable := p.(engine.Host); writable {
		return engine.Result{}, errors.New("Check was handed a host")
	}
	res := engine.Result{}
	if a.Reads != "" {
		files, err := p.ReadFiles(ctx, a.Reads)
		if err != nil {
			return engine.Result{}, err
		}
		if files[0].Pending {
			res.Changes = append(res.Changes, engine.Change{Subject: a.Reads, To: "read again"})
		}
	}
	out, err := p.Query(ctx, engine.Command{Argv: []string{"get", a.Key}})
	if err != nil {
		return engine.Result{}, err
	}
	have := string(out.Stdout)
	res.Outputs = seen{Have: have, Count: len(have)}
	change := engine.Change{Subject: a.Key, Path: a.Path, From: have, To: a.Value}
	if have != a.Value {
		res.Changes = append(res.Changes, change)
	} else {
		res.Done = append(res.Done, change)
	}
	return res, nil
}

func (a *setAction) Apply(ctx context.Context, h engine.Host) error {
	_, err := h.Exec(ctx, engine.Command{Argv: []string{"set", a.Key, a.Value}})
	return err
}

// putAction is setAction with Revert.
type putAction struct{ setAction }

func (a *putAction) Revert(ctx context.Context, h engine.Host) error {
	_, err := h.Exec(ctx, engine.Command{Argv: []string{"undo", a.Key}})
	return err
}

// followAction follows the keys of the others: it is satisfied when its key
// was set after theirs were, or once it has set it.
type followAction struct {
	Key string `yaml:"key" required:"true"`
	Of  string `yaml:"of" required:"true"`

	applied bool
}

func (a *followAction) Follow() { a.applied = false }

func (a *followAction) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	want, err := p.Query(ctx, engine.Command{Argv: []string{"get", a.Of}})
	if err != nil {
		return engine.Result{}, err
	}
	have, err := p.Query(ctx, engine.Command{Argv: []string{"get", a.Key}})
	if err != nil || a.applied || string(have.Stdout) == string(want.Stdout) {
		return engine.Result{}, err
	}
	return engine.Result{Changes: []engine.Change{{Subject: a.Key}}}, nil
}

func (a *followAction) Apply(ctx context.Context, h engine.Host) error {
	want, err := h.Query(ctx, engine.Command{Argv: []string{"get", a.Of}})
	if err != nil {
		return err
	}
	_, err = h.Exec(ctx, engine.Command{Argv: []string{"set", a.Key, string(want.Stdout)}})
	a.applied = err == nil
	return err
}

// waitAction only waits.
type waitAction struct{ setAction }

func (a *waitAction) Waits() {}

// lookAction is a question: it has outputs and fails when its key is "bad".
type lookAction struct {
	Key    string          `yaml:"key" default:"look"`
	Reads  string          `yaml:"reads"`
	Before schema.Duration `yaml:"before" default:"30d"`
	Names  []string        `yaml:"names"`
	N      int             `yaml:"n"`
	Text   string          `yaml:"text"`
	Flag   bool            `yaml:"flag"`
	Mode   string          `yaml:"mode" enum:"fast|slow"`
	Even   int             `yaml:"even"`
}

func (a *lookAction) Validate() error {
	if a.Even%2 != 0 {
		return fmt.Errorf("even is %d", a.Even)
	}
	return nil
}

func (a *lookAction) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	if a.Reads != "" {
		if _, err := p.ReadFiles(ctx, a.Reads); err != nil {
			return engine.Result{}, err
		}
	}
	out, err := p.Query(ctx, engine.Command{Argv: []string{"get", a.Key}})
	have := string(out.Stdout)
	if err == nil && have == "bad" {
		err = errors.New("it is bad")
	}
	return engine.Result{Outputs: seen{Have: have, Count: len(have), Names: []string{"x", have}, Text: a.Text, Span: a.Before.String()}}, err
}

type seen struct {
	Have  string   `expr:"have"`
	Count int      `expr:"count"`
	Names []string `expr:"names"`
	Text  string   `expr:"text"`
	Span  string   `expr:"span"`
}

// oddAction finds changes but cannot make them.
type oddAction struct{}

func (oddAction) Check(context.Context, engine.Probe) (engine.Result, error) {
	return engine.Result{Changes: []engine.Change{{Subject: "s", From: "a", To: "b"}}}, nil
}

// panicAction has a bug.
type panicAction struct{ putAction }

func (a *panicAction) Apply(ctx context.Context, h engine.Host) error {
	if err := a.putAction.Apply(ctx, h); err != nil {
		return err
	}
	var none []string
	return errors.New(none[len(a.Key)]) // out of range
}

// sayAction runs a command with a secret, which the host then repeats.
type sayAction struct{}

func (sayAction) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	_, err := p.Query(ctx, engine.Command{Argv: []string{"say", "token=s3cret-long s3cret"}, Mask: []string{"s3cret", "s3cret-long"}})
	return engine.Result{}, err
}

// keepAction takes a key for as long as the run lasts.
type keepAction struct {
	Key string `yaml:"key" default:"lock" doc:"the key"`
}

func (a *keepAction) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	_, err := p.Query(ctx, engine.Command{Argv: []string{"get", a.Key}})
	return engine.Result{Outputs: seen{Have: "free"}}, err
}

func (a *keepAction) Take(ctx context.Context, h engine.Host) (engine.Result, time.Duration, error) {
	_, err := h.Exec(ctx, engine.Command{Argv: []string{"take", a.Key}})
	return engine.Result{Outputs: seen{Have: "taken"}}, time.Minute, err
}

func (a *keepAction) Renew(ctx context.Context, h engine.Host) error {
	_, err := h.Exec(ctx, engine.Command{Argv: []string{"renew", a.Key}})
	return err
}

func (a *keepAction) Release(ctx context.Context, h engine.Host) error {
	_, err := h.Exec(ctx, engine.Command{Argv: []string{"release", a.Key}})
	return err
}

func registry() engine.Registry {
	return engine.Registry{
		"set":    {New: func() engine.Action { return &setAction{} }, Outputs: seen{}},
		"put":    {New: func() engine.Action { return &putAction{} }, Outputs: seen{}},
		"follow": {New: func() engine.Action { return &followAction{} }},
		"wait":   {New: func() engine.Action { return &waitAction{} }},
		"look":   {New: func() engine.Action { return &lookAction{} }, Outputs: seen{}},
		"odd":    {New: func() engine.Action { return &oddAction{} }},
		"panic":  {New: func() engine.Action { return &panicAction{} }},
		"keep":   {New: func() engine.Action { return &keepAction{} }, Outputs: seen{}},
		"say":    {New: func() engine.Action { return &sayAction{} }},
	}
}
