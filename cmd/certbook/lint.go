package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"certbook/engine"
	"certbook/playbooks"
	"certbook/schema"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"
)

func lintCommand(std streams) *cobra.Command {
	s := &session{std: std, lintOnly: true}
	cmd := &cobra.Command{
		Use:   "lint [PLAYBOOK...]",
		Short: "Find every mistake in playbooks, overlays and an inventory; dial nothing",
		Long: `Compiles each playbook (when none is named, the shipped ones that the inventory
has the groups for) with the given overlays and inventory, and prints every
mistake as file:line:column with the offending line. Exit code 2 when there is
one.

Secrets of the inventory are opened only with --age-identity. Without it lint
says which variables must be in them.`,
		ValidArgsFunction: completePlaybooks,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = s.suitable()
				if len(s.docs.overlays) > 0 { // an overlay fits one playbook, mostly this one
					args = []string{"renew"}
				}
			}
			var errs *multierror.Error
			for _, name := range args {
				if err := s.lint(cmd.Context(), name); err != nil {
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
func (s *session) lint(ctx context.Context, name string) error {
	l, err := s.load(ctx, name)
	if err != nil {
		return err
	}
	plan, err := l.compile(s.actions(), true)
	if err == nil && l.inventory.Locked() {
		s.assumed(name, l, plan)
	}
	return err
}

// assumed says what could not be checked without the inventory's secrets.
func (s *session) assumed(name string, l *loaded, plan *engine.Plan) {
	needs := "nothing in it is needed here"
	if len(plan.Assumed) > 0 {
		needs = "it must have the variables " + strings.Join(plan.Assumed, ", ")
	}
	fmt.Fprintf(s.std.err, "%s: %s was not opened, as there is no --age-identity; %s\n", name, l.inventory.Sealed.Name, needs)
}
