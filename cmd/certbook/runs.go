package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

func runsCommand(std streams) *cobra.Command {
	var output, runDir string
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "List the runs of this machine and how they ended",
		Long: `Reads the audit logs in the run directory and prints a line for each run, the
newest last. "cut off" is a run whose process has gone: certbook resume goes on
with it, certbook rollback brings back what it has replaced.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := oneOf("--output", output, "table", "json"); err != nil {
				return err
			}
			list, errs := pasts(runDir)
			if output == "json" {
				return printRunsJSON(std, list)
			}
			w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "RUN\tPLAYBOOK\tSTARTED\tTOOK\tHOSTS\tENDED")
			for _, p := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", oneLine(p.ID), oneLine(p.Origin.Playbook), p.Started.UTC().Format("2006-01-02 15:04:05"),
					p.took(), oneLine(strings.Join(p.Hosts, ",")), oneLine(p.ended()))
			}
			if err := w.Flush(); err != nil {
				return err
			}
			for _, err := range errs {
				fmt.Fprintln(std.err, oneLine(err.Error()))
			}
			if len(errs) > 0 {
				return &exitError{code: 1, text: "some logs cannot be read; 'certbook audit verify' says more"}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "what to print: table or json")
	cmd.Flags().StringVar(&runDir, "run-dir", defaultRunDir(), "directory that holds one directory per run")
	return cmd
}

func (p *past) took() string {
	if p.Finished.IsZero() {
		return "-"
	}
	return p.Finished.Sub(p.Started).Round(time.Second).String()
}

// ended is the state with the steps that were in flight.
func (p *past) ended() string {
	text := p.state()
	if p.Finished.IsZero() {
		for _, host := range slices.Sorted(maps.Keys(p.InFlight)) {
			text += fmt.Sprintf(", %s in %s", host, p.InFlight[host])
		}
	}
	if p.Origin.Resumes != "" {
		text += ", resumed " + p.Origin.Resumes
	}
	if p.Origin.Undoes != "" {
		text += ", brought back " + p.Origin.Undoes
	}
	return text
}

// runLine is what runs -o json prints for each run.
type runLine struct {
	Run      string            `json:"run"`
	Playbook string            `json:"playbook"`
	Started  time.Time         `json:"started"`
	Finished time.Time         `json:"finished,omitzero"`
	State    string            `json:"state"` // an outcome, "running" or "cut off"
	Hosts    []string          `json:"hosts"`
	InFlight map[string]string `json:"in_flight,omitempty"` // host to step
	Resumes  string            `json:"resumes,omitempty"`
	Undoes   string            `json:"undoes,omitempty"`
	Log      string            `json:"log"`
}

func printRunsJSON(std streams, list []*past) error {
	lines := []runLine{}
	for _, p := range list {
		lines = append(lines, runLine{
			Run: p.ID, Playbook: p.Origin.Playbook, Started: p.Started, Finished: p.Finished, State: p.state(), Hosts: p.Hosts,
			InFlight: p.InFlight, Resumes: p.Origin.Resumes, Undoes: p.Origin.Undoes, Log: p.Log,
		})
	}
	enc := json.NewEncoder(std.out)
	enc.SetIndent("", "  ")
	return enc.Encode(map[string]any{"apiVersion": "certbook/v1", "runs": lines})
}
