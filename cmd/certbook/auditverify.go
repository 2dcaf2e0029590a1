package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"certbook/engine"
	"certbook/engine/audit"

	"github.com/spf13/cobra"
)

func auditVerifyCommand(std streams) *cobra.Command {
	v := &verification{session: session{std: std}}
	cmd := &cobra.Command{
		Use:   "verify [RUN|FILE]",
		Short: "Prove that no line of a log was changed, removed, added or moved",
		Long: `Follows the chain of hashes through the log of a run: the newest when none is
named. It finds any changed, removed, inserted or reordered line and a cut-off
tail, and says where; exit code 1 then.

A chain alone cannot show that a log was rewritten as a whole. Checkpoints that
the run has signed (run --sign-key) can: with --allowed-signers all of them must
be there, be signed by one of these keys and agree with the log. With --copies
the log is compared with the checkpoint that the run has left on each host of
the inventory (run --copy-checkpoint); exit code 1 when one differs, a host
cannot be asked, or no host has one.`,
		Example: `  certbook audit verify
  certbook audit verify --allowed-signers signers
  certbook audit verify --allowed-signers signers --copies -i inventory.yaml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return v.run(cmd.Context(), args) },
	}
	f := cmd.Flags()
	f.StringVarP(&v.output, "output", "o", "text", "text or json")
	f.StringVar(&v.runDir, "run-dir", defaultRunDir(), "directory that holds one directory per run")
	f.StringVar(&v.signersFile, "allowed-signers", "", "want checkpoints signed by these keys; a file as for ssh-keygen -Y verify")
	f.BoolVar(&v.copies, "copies", false, "compare with the checkpoints on the hosts")
	v.docs.hostFlags(f)
	v.conn.flags(f)
	return cmd
}

// verification is one audit verify.
type verification struct {
	session
	output, runDir, signersFile string
	copies                      bool
	signers                     *audit.Signers // of signersFile; nil without
}

func (v *verification) run(ctx context.Context, args []string) error {
	if err := oneOf("--output", v.output, "text", "json"); err != nil {
		return err
	}
	if err := v.conn.check(); err != nil {
		return err
	}
	file, err := auditFile(args, v.runDir)
	if err != nil {
		return err
	}
	if v.signersFile != "" {
		if v.signers, err = audit.ReadSigners(v.signersFile); err != nil {
			return usageError{fmt.Errorf("--allowed-signers: %w", err)}
		}
	}
	var askHosts func(string, audit.Summary) []copyVerdict
	if v.copies {
		if askHosts, err = v.hosts(ctx); err != nil {
			return err
		}
	}
	verdict, err := v.judge(file, askHosts)
	if v.output == "json" {
		verdict.OK = err == nil
		if err != nil {
			verdict.Error = err.Error()
		}
		return errors.Join(err, json.NewEncoder(v.std.out).Encode(verdict))
	}
	verdict.print(v.std.out, err == nil)
	return err
}

// judge verifies a log by all means that were asked for.
func (v *verification) judge(file string, askHosts func(string, audit.Summary) []copyVerdict) (verdict, error) {
	sum, err := audit.VerifyFile(file)
	out := newVerdict(file, sum)
	if errors.As(err, new(*audit.LineError)) {
		return out, err
	}
	if v.signers != nil {
		signed, signErr := audit.VerifyCheckpoints(file, v.signers)
		if signErr != nil {
			err = signErr // it says more than that the log ends too early
		}
		out.sign(signed)
	}
	if askHosts != nil && sum.Lines > 0 {
		out.Copies = askHosts(file, sum)
		if copyErr := differing(out.Copies); copyErr != nil {
			err = errors.Join(err, fmt.Errorf("audit log %q: %w", file, copyErr))
		}
	}
	return out, err
}

// verdict is what verify -o json prints. The fields from Run on are those of
// the lines before the first that is wrong.
type verdict struct {
	APIVersion  string         `json:"apiVersion"`
	File        string         `json:"file"`
	OK          bool           `json:"ok"`
	Error       string         `json:"error,omitempty"`
	Run         string         `json:"run"`
	Playbook    string         `json:"playbook"`
	Lines       int            `json:"lines"`
	Started     time.Time      `json:"started,omitzero"`
	Finished    time.Time      `json:"finished,omitzero"`
	Outcome     engine.Outcome `json:"outcome"`
	Redacted    int            `json:"redacted"` // values that were taken out when the log was written
	Head        string         `json:"head"`
	Checkpoints int            `json:"checkpoints"`        // that were verified
	SignedBy    []string       `json:"signedBy,omitempty"` // principals of their keys
	Copies      []copyVerdict  `json:"copies,omitempty"`
}

func newVerdict(file string, sum audit.Summary) verdict {
	return verdict{
		APIVersion: "certbook/v1", File: file, Run: sum.Run, Playbook: sum.Playbook, Lines: sum.Lines,
		Started: sum.Started, Finished: sum.Finished, Outcome: sum.Outcome, Redacted: sum.Redacted, Head: sum.Head,
	}
}

// sign adds the checkpoints that were verified.
func (v *verdict) sign(signed []audit.Signed) {
	v.Checkpoints = len(signed)
	for _, s := range signed {
		if !slices.Contains(v.SignedBy, s.By) {
			v.SignedBy = append(v.SignedBy, s.By)
		}
	}
}

// print shows what is right; what is wrong is in the error.
func (v *verdict) print(w io.Writer, ok bool) {
	if ok {
		fmt.Fprintf(w, "%s: ok, %d lines, run %s of %s: %s\nhead %s\n",
			oneLine(v.File), v.Lines, oneLine(v.Run), oneLine(v.Playbook), oneLine(string(v.Outcome)), v.Head)
	}
	if v.Checkpoints > 0 {
		fmt.Fprintf(w, "checkpoints %d, signed by %s\n", v.Checkpoints, oneLine(strings.Join(v.SignedBy, ", ")))
	}
	for _, c := range v.Copies {
		fmt.Fprintf(w, "%s: %s", oneLine(c.Host), c.State)
		if c.Reason != "" {
			fmt.Fprintf(w, ": %s", oneLine(c.Reason))
		}
		fmt.Fprintln(w)
	}
}
