package main

import (
	"fmt"
	"slices"

	"certbook/playbooks"
	"certbook/schema"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"
)

func lintCommand(std streams) *cobra.Command {
	s := &session{std: std}
	cmd := &cobra.Command{
		Use:   "lint [PLAYBOOK...]",
		Short: "Find every mistake in playbooks, overlays and an inventory; dial nothing",
		Long: `Compiles each playbook (when none is named, the shipped ones that the inventory
has the groups for) with the given overlays and inventory, and prints every
mistake as file:line:column with the offending line. Exit code 2 when there is
one.`,
		ValidArgsFunction: completePlaybooks,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = s.suitable()
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

// suitable returns the shipped playbooks that the inventory has the groups for:
// not everyone has an external etcd.
func (s *session) suitable() []string {
	inventory, err := s.docs.loadInventory()
	if err != nil {
		return playbooks.Names() // lint tells
	}
	return slices.DeleteFunc(playbooks.Names(), func(name string) bool {
		book, err := loadPlaybook(name)
		return err == nil && slices.ContainsFunc(book.Plays, func(p schema.Play) bool {
			return slices.ContainsFunc(p.Hosts, func(h schema.Text) bool {
				_, group := inventory.Groups[h.Value]
				return !group && h.Value != "masters" // which every inventory must have
			})
		})
	})
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
