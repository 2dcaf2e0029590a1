package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"certbook/actions"
	"certbook/actions/kube"
	"certbook/engine"
	"certbook/schema"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"
)

func checkCommand(std streams) *cobra.Command {
	s := &session{std: std}
	var output, warn string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "One table of every certificate on every host",
		Long: `Reads every certificate of the control plane on every host of the group masters,
and how the processes use it, and prints one table. Exit code 3 when one is due,
missing, unreadable or stale, 4 when one has expired, is not yet valid or is
refused.

Stale: it was renewed on disk, but the process still uses the one before, which
is good for now. Refused: and that one is not accepted any more. 'certbook run'
restarts just those processes.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.check(cmd.Context(), output, warn)
		},
	}
	s.docs.flags(cmd.Flags())
	s.conn.flags(cmd.Flags())
	cmd.Flags().StringVar(&warn, "warn", "30d", "a certificate that ends within this time is due")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "what to print: table, json or yaml")
	return cmd
}

// hostCheck is what check prints for one host.
type hostCheck struct {
	Host     string          `json:"host"`
	Error    string          `json:"error,omitempty"`
	Expiry   *actions.Expiry `json:"expiry,omitempty"`
	Uses     []actions.Use   `json:"uses,omitempty"`
	Warnings []string        `json:"warnings,omitempty"` // of the certificates; those of uses are told by them
}

// use joins how certificates are used with what they are: a good one on disk
// that its process does not hold is stale or refused.
func (h *hostCheck) use(list []actions.Use) {
	h.Uses = list
	if h.Expiry == nil {
		return
	}
	h.Expiry.Certificates = slices.Clone(h.Expiry.Certificates)
	for _, u := range list {
		for i := range h.Expiry.Certificates {
			c := &h.Expiry.Certificates[i]
			good := c.State == string(kube.OK) || c.State == string(kube.Due) || c.State == string(kube.Stale)
			if c.Path == u.Path && !c.IsCA && good && (u.State == string(kube.Stale) || u.State == string(kube.Refused)) {
				c.State = u.State
			}
		}
	}
}

// problems are the uses that are not as they should be, for people.
func (h hostCheck) problems() []string {
	var list []string
	for _, u := range h.Uses {
		if u.State != string(kube.Current) {
			list = append(list, u.Component+": "+u.Reason)
		}
	}
	return list
}

func (s *session) check(ctx context.Context, output, warn string) error {
	if err := oneOf("--output", output, "table", "json", "yaml"); err != nil {
		return err
	}
	if err := s.conn.check(); err != nil {
		return err
	}
	if _, err := schema.ParseDuration(warn); err != nil {
		return usageError{fmt.Errorf("--warn: %w", err)}
	}
	s.docs.set = append(s.docs.set, "renew_before="+warn)
	l, err := s.load(ctx, "check")
	if err != nil {
		return err
	}
	plan, err := l.compile(s.actions(), false)
	if err != nil {
		return err
	}
	rep := s.execute(ctx, l, plan, func(engine.Event) error { return nil })
	var list []hostCheck
	for _, name := range rep.Order {
		c := hostCheck{Host: name}
		if err := rep.Hosts[name].Err; err != nil {
			c.Error = oneLine(err.Error())
		}
		for _, step := range rep.Steps[name] {
			switch out := step.Outputs.(type) {
			case actions.Expiry:
				c.Expiry, c.Warnings = &out, step.Warnings
			case actions.Proofs:
				c.use(out.Uses)
			}
		}
		list = append(list, c)
	}
	if err := s.printCheck(output, list); err != nil {
		return err
	}
	return checkOutcome(s, rep, list)
}

func (s *session) printCheck(output string, list []hostCheck) error {
	switch output {
	case "json":
		enc := json.NewEncoder(s.std.out)
		enc.SetIndent("", "  ")
		return enc.Encode(map[string]any{"apiVersion": "certbook/v1", "hosts": list})
	case "yaml":
		return s.printYAML(list)
	}
	w := tabwriter.NewWriter(s.std.out, 0, 0, 2, ' ', 0)
	if slices.ContainsFunc(list, func(h hostCheck) bool { return h.Expiry != nil }) {
		fmt.Fprintln(w, "HOST\tCERTIFICATE\tSTATE\tENDS\tLEFT\tSIGNED BY")
	}
	for _, h := range list {
		if h.Expiry == nil {
			continue
		}
		for _, c := range h.Expiry.Certificates {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", oneLine(h.Host), oneLine(c.Name), strings.ToUpper(c.State), oneLine(ends(c)), left(c), oneLine(signer(c)))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, h := range list {
		if h.Error != "" {
			fmt.Fprintf(s.std.err, "%s: %s\n", oneLine(h.Host), h.Error)
		} else if h.Expiry != nil && len(h.Expiry.Certificates) == h.Expiry.Missing {
			fmt.Fprintf(s.std.err, "%s: no kubeadm certificates here; is it a control plane?\n", oneLine(h.Host))
		}
		for _, problem := range h.problems() {
			fmt.Fprintf(s.std.err, "%s: %s\n", oneLine(h.Host), oneLine(problem))
		}
		for _, warning := range h.Warnings {
			fmt.Fprintf(s.std.err, "%s: warning: %s\n", oneLine(h.Host), oneLine(warning))
		}
	}
	return nil
}

// printYAML goes by way of JSON, so that both have the same names.
func (s *session) printYAML(list []hostCheck) error {
	data, err := json.Marshal(map[string]any{"apiVersion": "certbook/v1", "hosts": list})
	if err != nil {
		return err
	}
	var doc any
	if err := json.Unmarshal(data, &doc); err != nil {
		return err
	}
	enc := yaml.NewEncoder(s.std.out)
	enc.SetIndent(2)
	return errors.Join(enc.Encode(doc), enc.Close())
}

func ends(c actions.Certificate) string {
	if c.NotAfter == "" {
		return c.Reason
	}
	return strings.Replace(strings.TrimSuffix(c.NotAfter, ":00Z"), "T", " ", 1)
}

func left(c actions.Certificate) string {
	if c.NotAfter == "" {
		return "-"
	}
	if end, err := time.Parse(time.RFC3339, c.NotAfter); err == nil && -2 <= c.DaysLeft && c.DaysLeft < 2 {
		return kube.Span(time.Until(end))
	}
	return fmt.Sprintf("%dd", c.DaysLeft)
}

func signer(c actions.Certificate) string {
	switch {
	case c.CA == "":
		return "itself"
	case c.External:
		return c.CA + " (external)"
	}
	return c.CA
}

// checkOutcome turns what was found into an exit code.
func checkOutcome(s *session, rep *engine.Report, list []hostCheck) error {
	code := 0
	for _, h := range list {
		if h.Expiry == nil {
			continue
		}
		for _, c := range h.Expiry.Certificates {
			switch c.State {
			case "expired", "not-yet-valid", "refused":
				code = max(code, 4)
			case "due", "missing", "unreadable", "stale":
				code = max(code, 3)
			}
		}
	}
	if code == 4 || rep.Err == nil {
		if code == 0 {
			return nil
		}
		return &exitError{code: code}
	}
	err := s.outcome(rep)
	var exit *exitError
	if errors.As(err, &exit) {
		exit.text = "some hosts could not be read"
	}
	return err
}
