package main

import (
	"context"

	"certbook/engine"
	"certbook/engine/report"

	"github.com/spf13/cobra"
)

func planCommand(std streams) *cobra.Command {
	s := &session{std: std}
	var output string
	var detailed bool
	cmd := &cobra.Command{
		Use:   "plan [PLAYBOOK]",
		Short: "Show what a run would change, and change nothing",
		Long: `Connects to the hosts, runs only commands that read, and shows per host and step
what would change. Reading steps run as in a real run; a step whose condition or
arguments hang on a result that the plan withholds is shown as pending.

With --detailed-exitcode the exit code is 3 when something would change.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completePlaybooks,
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.plan(cmd.Context(), playbookName(args), output, detailed)
		},
	}
	s.docs.flags(cmd.Flags())
	s.conn.flags(cmd.Flags())
	cmd.Flags().BoolVarP(&s.yes, "yes", "y", false, "accepted for symmetry with run; a plan never asks")
	cmd.Flags().BoolVarP(&s.verbose, "verbose", "v", false, "show every command")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "what to print: text or json")
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit with 3 when something would change")
	cmd.Flags().String("run-dir", "", "accepted for symmetry with run; a plan leaves nothing behind")
	return cmd
}

func (s *session) plan(ctx context.Context, playbook, output string, detailed bool) error {
	if err := oneOf("--output", output, "text", "json"); err != nil {
		return err
	}
	if err := s.conn.check(); err != nil {
		return err
	}
	l, err := s.load(ctx, playbook)
	if err != nil {
		return err
	}
	plan, err := l.compile(s.actions(), true)
	if err != nil {
		return err
	}
	progress := &report.Progress{Style: s.style(s.std.err), W: s.std.err}
	rep := s.execute(ctx, l, plan, func(e engine.Event) error {
		if s.verbose {
			progress.Emit(e)
		}
		return nil
	})
	if output == "json" {
		if err := report.JSON(s.std.out, rep); err != nil {
			return err
		}
	} else {
		report.Plan(s.std.out, rep, s.style(s.std.out))
	}
	if err := s.outcome(rep); err != nil {
		return err
	}
	if detailed && wouldChange(rep) {
		return &exitError{code: 3}
	}
	return nil
}

func wouldChange(rep *engine.Report) bool {
	for _, steps := range rep.Steps {
		for _, s := range steps {
			if s.Status == "planned" {
				return true
			}
		}
	}
	return false
}
