package actions

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"certbook/engine"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"
)

// RunCommand runs any program.
type RunCommand struct {
	Argv        []string `yaml:"argv" required:"true" doc:"the program and its arguments; no shell is involved"`
	Env         []string `yaml:"env" doc:"additional environment variables, NAME=value"`
	Stdin       string   `yaml:"stdin" secret:"true" doc:"text for its standard input; never logged; the place for secret variables"`
	Creates     string   `yaml:"creates" doc:"a path that the command makes; when it is there the step is satisfied"`
	ReadOnly    bool     `yaml:"read_only" doc:"the command changes nothing, so that a plan runs it as well"`
	ChangedWhen string   `yaml:"changed_when" default:"true" doc:"an expression on rc, stdout and stderr: whether the command changed something"`
	FailedWhen  string   `yaml:"failed_when" default:"rc != 0" doc:"an expression on rc, stdout and stderr: whether the command failed"`

	ran    bool
	result CommandResult
}

// CommandResult is what a command did.
type CommandResult struct {
	RC      int    `expr:"rc" doc:"exit status"`
	Stdout  string `expr:"stdout" doc:"standard output, at most 64 KiB"`
	Stderr  string `expr:"stderr" doc:"standard error, at most 64 KiB"`
	Changed bool   `expr:"did_change" doc:"what changed_when gave"`
}

func runCommandSpec() engine.Spec {
	return engine.Spec{
		New:     func() engine.Action { return &RunCommand{} },
		Outputs: CommandResult{},
		Summary: "run any program with arguments",
		Doc: `The words of argv reach the program as they are; nothing is expanded. The step
runs once per attempt, unless creates names a path that exists. With read_only
it is a question instead of a change and runs in plans, too.

Its output is not logged, as it may hold secrets; use it in expressions. A secret
variable can be given by stdin alone: other users of the host see argv and env.`,
		Example: `- id: members
  action: run-command
  with:
    argv: [etcdctl, member, list]
    read_only: true
    failed_when: rc != 0 || stdout contains "unstarted"`,
	}
}

var (
	_ engine.Applier   = (*RunCommand)(nil)
	_ engine.Validator = (*RunCommand)(nil)
)

// Validate implements engine.Validator.
func (a *RunCommand) Validate() error {
	if len(a.Argv) == 0 || a.Argv[0] == "" {
		return errors.New("argv: name a program")
	}
	for name, text := range map[string]string{"changed_when": a.ChangedWhen, "failed_when": a.FailedWhen} {
		if _, err := a.compile(text); err != nil {
			return fmt.Errorf("%s: %v", name, err)
		}
	}
	if a.ReadOnly && a.Creates != "" {
		return errors.New("creates: a read_only command creates nothing")
	}
	return nil
}

func (a *RunCommand) compile(text string) (*vm.Program, error) {
	return expr.Compile(text, expr.Env(map[string]any{"rc": 0, "stdout": "", "stderr": ""}), expr.AsBool())
}

func (a *RunCommand) judge(text string) (bool, error) {
	program, err := a.compile(text)
	if err != nil {
		return false, err
	}
	v, err := expr.Run(program, map[string]any{"rc": a.result.RC, "stdout": a.result.Stdout, "stderr": a.result.Stderr})
	if err != nil {
		return false, err
	}
	b, _ := v.(bool) // AsBool has made sure
	return b, nil
}

// Check implements engine.Action.
func (a *RunCommand) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	if a.ReadOnly {
		err := a.run(ctx, p.Query)
		return engine.Result{Outputs: a.result}, err
	}
	if a.Creates != "" {
		files, err := p.ReadFiles(ctx, a.Creates)
		if err != nil {
			return engine.Result{}, err
		}
		if len(files) > 0 {
			return engine.Result{Outputs: a.result}, nil
		}
		if a.ran {
			return engine.Result{}, fmt.Errorf("%s: ran, but there is no %s", a.command(), a.Creates)
		}
	}
	if a.ran {
		return engine.Result{Outputs: a.result, Unchanged: !a.result.Changed}, nil
	}
	return engine.Result{Changes: []engine.Change{{Subject: a.command().String(), To: "run"}}}, nil
}

// Apply implements engine.Applier.
func (a *RunCommand) Apply(ctx context.Context, h engine.Host) error {
	if err := a.run(ctx, h.Exec); err != nil {
		return err
	}
	a.ran = true
	return nil
}

func (a *RunCommand) command() engine.Command {
	return engine.Command{Argv: a.Argv, Env: a.Env, Stdin: []byte(a.Stdin)}
}

func (a *RunCommand) run(ctx context.Context, exec func(context.Context, engine.Command) (engine.Output, error)) error {
	out, err := exec(ctx, a.command())
	var exit *engine.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	a.result = CommandResult{RC: out.Code, Stdout: clip(out.Stdout), Stderr: clip(out.Stderr)}
	failed, evalErr := a.judge(a.FailedWhen)
	switch {
	case evalErr != nil:
		return fmt.Errorf("failed_when: %v", evalErr)
	case failed && err != nil:
		return err
	case failed:
		return fmt.Errorf("%s: failed_when %q is true", a.command(), a.FailedWhen)
	}
	a.result.Changed, evalErr = a.judge(a.ChangedWhen)
	if evalErr != nil {
		return fmt.Errorf("changed_when: %v", evalErr)
	}
	return nil
}

func clip(b []byte) string {
	const most = 64 << 10
	if len(b) > most {
		b = b[:most]
		b = b[:bytes.LastIndexByte(b, '\n')+1] // whole lines: half a secret would not be recognised
	}
	return string(b)
}
