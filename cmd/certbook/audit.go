package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

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
	return "", usageError{fmt.Errorf("no log %q, and no run of that name in %s; 'certbook runs' lists them", name, runDir)}
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
