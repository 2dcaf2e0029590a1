package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"certbook/engine"
	"certbook/schema"

	"github.com/spf13/cobra"
)

func resumeCommand(std streams) *cobra.Command {
	s := &session{std: std}
	var output, runDir string
	cmd := &cobra.Command{
		Use:   "resume [RUN]",
		Short: "Go on with a run that was cut off or interrupted; the newest when none is named",
		Long: `Without RUN it goes on with the newest run that had come so far that it changed
something; runs that failed before that are passed over for it.

Reads the log of the run and the documents that it was started with, which must
be as they were. On the hosts that it had not finished it first repairs what only
such a run leaves behind (a manifest that was moved out, a key without its
certificate, scratch directories), then goes on as the run would have: state
decides what is left to do. Hosts that were done are not touched again.

It is a run of its own, with its own log, which names the one it resumes. Locks
that the run has left on hosts are taken over.`,
		Example: `  certbook runs
  certbook resume --yes`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.resume(cmd.Context(), strings.Join(args, ""), output, runDir)
		},
	}
	s.runFlags(cmd.Flags(), &output, &runDir)
	cmd.Flags().StringArrayVar(&s.docs.identities, "age-identity", nil, "file with a key that opens the inventory's secrets; see certbook run")
	return cmd
}

func (s *session) resume(ctx context.Context, name, output, runDir string) error {
	if err := oneOf("--output", output, "text", "json"); err != nil {
		return err
	}
	if err := s.conn.check(); err != nil {
		return err
	}
	old, err := toResume(name, runDir)
	if err != nil {
		return err
	}
	if err := old.resumable(); err != nil {
		return err
	}
	chain, err := old.chain(runDir)
	if err != nil {
		return err
	}
	if err := old.again(&s.docs); err != nil {
		return err
	}
	in := old.Origin.Invocation
	s.docs.overlays, s.docs.set, s.docs.limit = in.Overlays, in.Set, in.Limit
	l, err := s.load(ctx, in.Playbook)
	if err != nil {
		return err
	}
	if err := s.unchanged(l, old); err != nil {
		return err
	}
	fmt.Fprintf(s.std.err, "resuming run %s of %s: %s\n", oneLine(old.ID), oneLine(old.Origin.Playbook), oneLine(old.ended()))
	if l.playbook, err = withRepair(l.playbook, chain); err != nil {
		return err
	}
	done := map[string][]string{}
	for _, p := range chain {
		for play, hosts := range p.Done {
			done[play] = append(done[play], hosts...)
		}
	}
	s.invocation, s.resumes = in, old.ID
	s.own = func(run string) bool { return slices.ContainsFunc(chain, func(p *past) bool { return p.ID == run }) }
	return s.runLoaded(ctx, l, done, output, runDir)
}

// toResume finds the run to go on with. "" is the newest, or one before it that
// was left half done when all after it failed before they changed anything: a
// host that did not answer must not hide it.
func toResume(name, runDir string) (*past, error) {
	newest, err := findPast(name, runDir)
	if err != nil || name != "" {
		return newest, err
	}
	list, _ := pasts(runDir) // one that cannot be read is not gone on with
	for _, p := range slices.Backward(list) {
		if p.Finished.IsZero() || p.Outcome != engine.OutcomeUnchanged {
			if p.resumable() == nil {
				return p, nil
			}
			break
		}
	}
	return newest, nil
}

// chain returns the run, the one that it resumed, and so on.
func (p *past) chain(runDir string) ([]*past, error) {
	chain := []*past{p}
	for p.Origin.Resumes != "" {
		before, err := findPast(p.Origin.Resumes, runDir)
		if err != nil {
			return nil, fmt.Errorf("run %s resumed another: %w", p.ID, err)
		}
		if slices.ContainsFunc(chain, func(c *past) bool { return c.ID == before.ID }) {
			return nil, fmt.Errorf("the logs of run %s and run %s say that each resumed the other", p.ID, before.ID)
		}
		chain = append(chain, before)
		p = before
	}
	return chain, nil
}

// resumable says why a run cannot be gone on with; nil is that it can.
func (p *past) resumable() error {
	switch {
	case p.Running:
		return fmt.Errorf("run %s is still going on", p.ID)
	case p.Origin.Plan:
		return fmt.Errorf("run %s was a plan", p.ID)
	case p.Outcome == engine.OutcomeOK && !p.Finished.IsZero():
		return fmt.Errorf("run %s ended as wished, there is nothing left to do", p.ID)
	case p.Origin.Undoes != "":
		return fmt.Errorf("run %s brings back run %s; start 'certbook rollback %[2]s' again", p.ID, p.Origin.Undoes)
	}
	if in := p.Origin.Invocation; in != nil && slices.ContainsFunc(in.Set, func(set string) bool { return strings.Contains(set, "REDACTED") }) {
		return errors.New("the log does not tell the values of all --set flags, which looked like secrets; run it again yourself")
	}
	return nil
}

// unchanged proves that the documents are those of the run.
func (s *session) unchanged(l *loaded, old *past) error {
	plan, err := l.compile(s.actions(), true)
	if err != nil {
		return err
	}
	now := slices.Sorted(maps.Values(plan.Documents))
	if then := slices.Sorted(maps.Values(old.Origin.Documents)); !slices.Equal(now, then) {
		var changed []string
		for _, name := range slices.Sorted(maps.Keys(plan.Documents)) {
			if !slices.Contains(then, plan.Documents[name]) {
				changed = append(changed, name)
			}
		}
		return fmt.Errorf("run %s was started with other documents; changed since: %s; start a new run instead", old.ID, strings.Join(changed, ", "))
	}
	return nil
}

// withRepair puts a play before all others that mends what the runs have left
// behind.
func withRepair(book *schema.Playbook, runs []*past) (*schema.Playbook, error) {
	var text strings.Builder
	text.WriteString("version: 1\nname: resume\nplays:\n")
	n := 0
	for _, p := range runs {
		if hosts := p.unfinished(); len(hosts) > 0 {
			n++
			// The name has the run in it: a play of that name that is done has mended that run.
			fmt.Fprintf(&text, "- name: repair %[3]s\n  hosts: [%[2]s]\n  serial: all\n  on_failure: stop\n  steps:\n  - {id: resume_repair_%[1]d, action: repair-run, with: {run: %[3]q}}\n",
				n, strings.Join(hosts, ", "), p.ID)
		}
	}
	if n == 0 {
		return book, nil
	}
	repair, err := schema.ParsePlaybook(&schema.Source{Name: "<resume>", Data: []byte(text.String())})
	if err != nil {
		return nil, err
	}
	out := *book
	out.Plays = slices.Concat(repair.Plays, book.Plays)
	return &out, nil
}
