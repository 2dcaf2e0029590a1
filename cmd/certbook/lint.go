package main

import (
	"fmt"

	"certbook/playbooks"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"
)

func lintCommand(std streams) *cobra.Command {
	s := &session{std: std}
	cmd := &cobra.Command{
		Use:   "lint [PLAYBOOK...]",
		Short: "Find every mistake in playbooks, overlays and an inventory; dial nothing",
		Long: `Compiles each playbook (the shipped ones when none is named) with the given
overlays and inventory, and prints every mistake as file:line:column with the
offending line. Exit code 2 when there is one.`,
		ValidArgsFunction: completePlaybooks,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = playbooks.Names()
				if len(s.docs.overlays) > 0 { // an overlay fits one playbook, mostly this one
					args = []string{"renew"}
				}
			}
			var errs *multierror.Error
			for _, name := range args {
				if err := s.lint(name); err != nil {
					errs = multierror.Append(errs, err)
					continue
				}
				fmt.Fprintf(std.out, "%s: ok\n", name)
			}
			if errs == nil {
				return nil
			}
			errs.ErrorFormat = lines
			return usageError{errs}
		},
	}
	s.docs.flags(cmd.Flags())
	return cmd
}

// lint compiles one playbook.
func (s *session) lint(name string) error {
	l, err := s.docs.load(name, s.actions())
	if err != nil {
		return err
	}
	_, err = l.compile(s.actions(), true)
	return err
}
