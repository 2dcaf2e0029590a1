package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"certbook/engine"
	"certbook/engine/audit"
	"certbook/engine/report"

	"github.com/spf13/cobra"
)

func auditCommand(std streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Verify or show a run's audit log",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(auditVerifyCommand(std), auditShowCommand(std))
	return cmd
}

// auditFile finds a log by its path, its run's directory, or a run's id in the
// run directory; "" is the newest run.
func auditFile(args []string, runDir string) (string, error) {
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	if name == "" {
		logs, err := filepath.Glob(filepath.Join(runDir, "*", "audit.jsonl"))
		if err != nil || len(logs) == 0 {
			return "", usageError{fmt.Errorf("no run in %s; name a log", runDir)}
		}
		return logs[len(logs)-1], nil // run ids sort by time
	}
	for _, candidate := range []string{name, filepath.Join(name, "audit.jsonl"), filepath.Join(runDir, name, "audit.jsonl")} {
		if info, err := os.Stat(candidate); err == nil && !info.IsDir() {
			return candidate, nil
		}
	}
	return "", usageError{fmt.Errorf("no log %q, and no run of that name in %s", name, runDir)}
}

func auditVerifyCommand(std streams) *cobra.Command {
	var output, runDir string
	cmd := &cobra.Command{
		Use:   "verify [RUN|FILE]",
		Short: "Prove that no line of a log was changed, removed, added or moved",
		Long: `Follows the chain of hashes through the log of a run: the newest when none is
named. It finds any changed, removed, inserted or reordered line and a cut-off
tail, and says where; exit code 1 then.

A chain alone cannot show that a log was rewritten as a whole. Keep the head
that this command prints somewhere else, and compare.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := oneOf("--output", output, "text", "json"); err != nil {
				return err
			}
			file, err := auditFile(args, runDir)
			if err != nil {
				return err
			}
			sum, err := audit.VerifyFile(file)
			if output == "json" {
				if encErr := json.NewEncoder(std.out).Encode(newVerdict(file, sum, err)); encErr != nil {
					return encErr
				}
			}
			if err != nil {
				return err
			}
			if output == "text" {
				fmt.Fprintf(std.out, "%s: ok, %d lines, run %s of %s: %s\nhead %s\n",
					oneLine(file), sum.Lines, oneLine(sum.Run), oneLine(sum.Playbook), oneLine(string(sum.Outcome)), sum.Head)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.Flags().StringVar(&runDir, "run-dir", defaultRunDir(), "directory that holds one directory per run")
	return cmd
}

// verdict is what verify -o json prints. The fields from Run on are those of
// the lines before the first that is wrong.
type verdict struct {
	APIVersion string         `json:"apiVersion"`
	File       string         `json:"file"`
	OK         bool           `json:"ok"`
	Error      string         `json:"error,omitempty"`
	Run        string         `json:"run"`
	Playbook   string         `json:"playbook"`
	Lines      int            `json:"lines"`
	Started    time.Time      `json:"started,omitzero"`
	Finished   time.Time      `json:"finished,omitzero"`
	Outcome    engine.Outcome `json:"outcome"`
	Redacted   int            `json:"redacted"` // values that were taken out when the log was written
	Head       string         `json:"head"`
}

func newVerdict(file string, sum audit.Summary, err error) verdict {
	v := verdict{
		APIVersion: "certbook/v1", File: file, OK: err == nil, Run: sum.Run, Playbook: sum.Playbook, Lines: sum.Lines,
		Started: sum.Started, Finished: sum.Finished, Outcome: sum.Outcome, Redacted: sum.Redacted, Head: sum.Head,
	}
	if err != nil {
		v.Error = err.Error()
	}
	return v
}

func auditShowCommand(std streams) *cobra.Command {
	var output, runDir string
	cmd := &cobra.Command{
		Use:   "show [RUN|FILE]",
		Short: "Show what a log says, as far as it can be verified",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := oneOf("--output", output, "text", "json"); err != nil {
				return err
			}
			file, err := auditFile(args, runDir)
			if err != nil {
				return err
			}
			s := &session{std: std, verbose: true}
			progress := &report.Progress{Style: s.style(std.out), W: std.out, Times: true}
			enc := json.NewEncoder(std.out)
			err = audit.Read(file, func(r audit.Record) error {
				if output == "json" {
					return enc.Encode(r.Event)
				}
				progress.Emit(r.Event)
				return nil
			})
			var cut *audit.CutOffError
			if errors.As(err, &cut) {
				fmt.Fprintf(std.err, "%s: %s\n", oneLine(file), oneLine(cut.Error()))
				return nil
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.Flags().StringVar(&runDir, "run-dir", defaultRunDir(), "directory that holds one directory per run")
	return cmd
}
