package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"certbook/engine"
	"certbook/schema"

	"github.com/spf13/cobra"
)

func locksCommand(std streams) *cobra.Command {
	s := &session{std: std}
	var output string
	cmd := &cobra.Command{
		Use:   "locks",
		Short: "List the locks that runs have on the hosts",
		Long: `Asks every host of the inventory, or this machine, for its lock and prints one
line for each: whose it is, since when, and when it gave its last sign of life.

A living one belongs to a run that is going on, wherever it was started. One that
was left belongs to a run whose process or connection is gone: 'certbook resume
RUN' and 'certbook rollback RUN' take it over by themselves on the controller that
has the run's log, any other run with --break-lock, and without it when nothing
was changed on the host.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.locks(cmd.Context(), output) },
	}
	s.docs.hostFlags(cmd.Flags())
	s.conn.flags(cmd.Flags())
	cmd.Flags().StringVarP(&output, "output", "o", "table", "what to print: table or json")
	return cmd
}

// hostLock is what locks prints for one host.
type hostLock struct {
	Host     string    `json:"host"`
	State    string    `json:"state"` // free, living, left or unknown: it cannot be asked
	Error    string    `json:"error,omitempty"`
	Owner    string    `json:"owner,omitempty"` // "" when what the host keeps is no lock of Certbook's
	Run      string    `json:"run,omitempty"`
	Playbook string    `json:"playbook,omitempty"`
	PID      int       `json:"pid,omitempty"`
	Since    time.Time `json:"since,omitzero"`
	Seen     time.Time `json:"seen,omitzero"`
	Undoes   string    `json:"undoes,omitempty"`
	Changed  bool      `json:"changed"`

	lock *engine.Lock
}

func (s *session) locks(ctx context.Context, output string) error {
	if err := oneOf("--output", output, "table", "json"); err != nil {
		return err
	}
	if err := s.conn.check(); err != nil {
		return err
	}
	inv, err := s.docs.loadInventory()
	if err == nil {
		inv, err = s.withSecrets(ctx, inv)
	}
	if err != nil {
		return usageError{err}
	}
	var mistakes schema.Diagnostics
	names := inv.Select(parseLimit(s.docs.limit), &mistakes)
	if err := mistakes.Err(); err != nil {
		return usageError{err}
	}
	slices.Sort(names)
	ctx, done := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer done()
	d := s.dialer(inv)
	list := make([]hostLock, len(names))
	failed := false
	for i, err := range s.onHosts(names, func(name string) (err error) {
		i := slices.Index(names, name)
		list[i], err = lockOf(ctx, d, name)
		return err
	}) {
		if err != nil {
			failed = true
			list[i] = hostLock{Host: names[i], State: "unknown", Error: oneLine(err.Error())}
		}
	}
	if output == "json" {
		enc := json.NewEncoder(s.std.out)
		enc.SetIndent("", "  ")
		err = enc.Encode(map[string]any{"apiVersion": "certbook/v1", "locks": list})
	} else {
		err = s.printLocks(list)
	}
	if err == nil && failed {
		err = &exitError{code: 1, text: "some hosts could not be asked"}
	}
	return err
}

func lockOf(ctx context.Context, d *dialer, name string) (hostLock, error) {
	out := hostLock{Host: name, State: "free"}
	h, err := d.dial(ctx, name)
	if err != nil {
		return out, err
	}
	defer h.Close()
	lock, err := h.ReadLock(ctx)
	if err != nil || lock == nil {
		return out, err
	}
	out = hostLock{
		Host: name, State: "left", Owner: lock.Owner, Run: lock.Run, Playbook: lock.Playbook, PID: lock.PID,
		Since: lock.Since, Seen: lock.Seen, Undoes: lock.Undoes, Changed: lock.Changed, lock: lock,
	}
	if lock.Living {
		out.State = "living"
	}
	return out, nil
}

func (s *session) printLocks(list []hostLock) error {
	w := tabwriter.NewWriter(s.std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "HOST\tSTATE\tOWNER\tRUN\tPLAYBOOK\tSINCE\tAGE\tLAST SEEN\tCHANGED")
	for _, l := range list {
		owner, age, seen, since, changed := l.Owner, "-", "-", "-", "-"
		if l.lock != nil {
			seen = engine.Ago(l.lock.Silence()) + " ago"
			if changed = "no"; l.Changed {
				changed = "yes"
			}
			if owner == "" {
				owner, changed = "unknown", "unknown"
			} else {
				age, since = engine.Ago(l.lock.Age()), l.Since.UTC().Format("2006-01-02 15:04:05")
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", oneLine(l.Host), l.State, orDash(owner), orDash(l.Run), orDash(l.Playbook), since, age, seen, changed)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, l := range list {
		if l.Error != "" {
			fmt.Fprintf(s.std.err, "%s: %s\n", oneLine(l.Host), l.Error)
		}
	}
	return nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return oneLine(s)
}
