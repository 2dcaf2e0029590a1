package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"certbook/engine"
	"certbook/schema"

	"github.com/spf13/cobra"
)

func rollbackCommand(std streams) *cobra.Command {
	s := &session{std: std}
	var output, runDir string
	var force bool
	cmd := &cobra.Command{
		Use:   "rollback RUN",
		Short: "Bring back every file that a run has replaced, and restart what holds the newer ones",
		Long: `Proves by the run's log and the hashes kept on each host that the old files are
what they were, puts them back one host after the other, restarts what holds the
newer ones and proves the health of each host before the next one. It works for a
run that ended well, one that failed, and one that was cut off.

It is a run of its own: logged, backed up, rolled back when it fails, and it can
be rolled back itself. Certificates that have ended in the meantime and files that
others have changed since are not touched without --force. Locks that the run has
left on hosts are taken over.

The playbook is 'certbook playbooks rollback'.`,
		Example: `  certbook runs
  certbook rollback 20261124T041500Z-0a1b2c --limit m1`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.rollback(cmd.Context(), args[0], force, output, runDir)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&s.docs.inventory, "inventory", "i", "", "inventory file; that of the run when not given")
	f.StringArrayVarP(&s.docs.overlays, "overlay", "f", nil, "overlay file for the playbook rollback; may be repeated")
	f.StringVarP(&s.docs.limit, "limit", "l", "", "work only on these hosts or groups: NAME[,NAME...], !NAME leaves out")
	f.StringArrayVar(&s.docs.set, "set", nil, "set a variable of the playbook rollback, NAME=VALUE (YAML)")
	f.StringArrayVar(&s.docs.identities, "age-identity", nil, "file with a key that opens the inventory's secrets; see certbook run")
	f.BoolVar(&force, "force", false, "bring back also certificates that have ended, and over what others have changed since")
	s.runFlags(f, &output, &runDir)
	return cmd
}

func (s *session) rollback(ctx context.Context, name string, force bool, output, runDir string) error {
	if err := oneOf("--output", output, "text", "json"); err != nil {
		return err
	}
	if err := s.conn.check(); err != nil {
		return err
	}
	old, err := findPast(name, runDir)
	if err != nil {
		return err
	}
	hosts := old.changed()
	switch {
	case old.Running:
		return fmt.Errorf("run %s is still going on; interrupt it first", old.ID)
	case len(hosts) == 0:
		return fmt.Errorf("run %s has changed nothing, there is nothing to bring back", old.ID)
	}
	if err := resumedBy(old, runDir); err != nil {
		return err
	}
	if err := old.again(&s.docs); err != nil {
		return err
	}
	hashes := map[string]map[string]string{}
	for _, h := range hosts {
		hashes[h] = map[string]string{}
		if old.Before[h] != nil {
			hashes[h] = old.Before[h]
		}
	}
	text, err := json.Marshal(hashes)
	if err != nil {
		return err
	}
	s.docs.set = append(s.docs.set, "undo="+old.ID, fmt.Sprintf("force=%v", force), "hashes="+string(text))
	if s.docs.limit, err = s.limitTo(hosts); err != nil {
		return err
	}
	l, err := s.load(ctx, "rollback")
	if err != nil {
		return err
	}
	if s.invocation, err = s.docs.invocation("rollback"); err != nil {
		return err
	}
	s.undoes, s.own = old.ID, after(old, runDir)
	return s.runLoaded(ctx, l, nil, output, runDir)
}

// resumedBy refuses a run that another one has gone on with on the same hosts,
// before that one was brought back there.
func resumedBy(old *past, runDir string) error {
	list, _ := pasts(runDir)       // a log that cannot be read says nothing of this run
	undone := map[[2]string]bool{} // run and host
	for _, p := range list {
		if p.Outcome == engine.OutcomeOK && !p.Finished.IsZero() {
			for _, h := range p.Hosts {
				undone[[2]string{p.Origin.Undoes, h}] = true
			}
		}
	}
	for _, p := range list {
		for _, h := range p.changed() {
			if p.Origin.Resumes == old.ID && old.Changed[h] && !undone[[2]string{p.ID, h}] {
				return fmt.Errorf("run %s was gone on with on %s by run %s; bring that back first: certbook rollback %[3]s", old.ID, h, p.ID)
			}
		}
	}
	return nil
}

// after tells the run and those that went on with it or were to bring it back.
// What they have left locked is this rollback's to take: resumedBy has refused
// when another one has to be brought back first.
func after(old *past, runDir string) func(run string) bool {
	list, _ := pasts(runDir) // a log that cannot be read gives no right to a lock
	family := map[string]bool{old.ID: true}
	for grown := true; grown; {
		grown = false
		for _, p := range list {
			if !family[p.ID] && (family[p.Origin.Resumes] || family[p.Origin.Undoes]) {
				family[p.ID], grown = true, true
			}
		}
	}
	return func(run string) bool { return family[run] }
}

// limitTo returns the hosts that are both in --limit and in the list.
func (s *session) limitTo(hosts []string) (string, error) {
	if s.docs.limit == "" {
		return strings.Join(hosts, ","), nil
	}
	inventory, err := s.docs.loadInventory()
	if err != nil {
		return "", usageError{err}
	}
	var mistakes schema.Diagnostics
	chosen := inventory.Select(parseLimit(s.docs.limit), &mistakes)
	if err := mistakes.Err(); err != nil {
		return "", usageError{err}
	}
	both := slices.DeleteFunc(chosen, func(h string) bool { return !slices.Contains(hosts, h) })
	if len(both) == 0 {
		return "", usageError{fmt.Errorf("--limit %s: the run has changed nothing there; it has on %s", s.docs.limit, strings.Join(hosts, ", "))}
	}
	return strings.Join(both, ","), nil
}
